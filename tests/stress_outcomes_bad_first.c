/* stress_outcomes with the failure booked before the call: the negative control. */
#define FLAGSHM_STRESS_BAD_FIRST
#include "stress_outcomes.c"
