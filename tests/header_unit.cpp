#include "header_units.h"

#include <string>

enum flagshm_reason header_unit_cpp(struct flagshm *fs, const char *flag, const char *id,
                                    struct flagshm_decision *d)
{
    const std::string name(flag);
    struct flagshm_outcome outcome = flagshm_outcome();

    outcome.event = FLAGSHM_FINISHED;
    (void)flagshm_record(fs, d, &outcome);
    return flagshm_decide(fs, name.c_str(), id, d);
}
