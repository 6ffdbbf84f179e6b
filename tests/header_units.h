/* header_units: one question asked in three units, so that the header is linked from several, in C and in C++. */
#ifndef FLAGSHM_TESTS_HEADER_UNITS_H
#define FLAGSHM_TESTS_HEADER_UNITS_H

#include "flagshm.h"
/* twice is as good as once */
#include "flagshm.h"

#ifdef __cplusplus
extern "C" {
#endif

void header_unit_c(struct flagshm *fs, const char *flag, const char *id, struct flagshm_decision *d);
#ifdef HEADER_C_ONLY /* where there is no C++ for the machine */
#define header_unit_cpp flagshm_decide
#else
enum flagshm_reason header_unit_cpp(struct flagshm *fs, const char *flag, const char *id,
                                    struct flagshm_decision *d);
#endif

#ifdef __cplusplus
}
#endif

#endif
