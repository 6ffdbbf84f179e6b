#include "header_units.h"

void header_unit_c(struct flagshm *fs, const char *flag, const char *id, struct flagshm_decision *d)
{
    (void)flagshm_decide(fs, flag, id, d);
}
