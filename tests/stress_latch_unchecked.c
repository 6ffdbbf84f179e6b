/* The negative control of stress_latch: the same program without the reader's second look at seq must find mixes. */
#define FLAGSHM_STRESS_UNCHECKED
#include "stress_latch.c"
