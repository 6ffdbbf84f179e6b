/* The negative control of stress_kill: the same storm without the reader's second look at seq must bring a mix. */
#define FLAGSHM_STRESS_UNCHECKED
#include "stress_kill.c"
