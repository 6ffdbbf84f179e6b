#include "flagshm.h"
#include <stdio.h>

int main(int argc, char **argv)
{
    struct flagshm flags;
    struct flagshm_decision d;
    const char *user = argc > 1 ? argv[1] : "user-1";

    flagshm_open(&flags, NULL);
    printf("%s\n", flagshm_model(&flags, "new_summarizer_model", user, "claude-haiku-4-5", &d));
    printf("%s: arm %s, stage %s, ", user, d.arm_name, d.stage);
    printf("bucket %u, because %s\n", (unsigned)d.bucket, flagshm_reason_name(d.reason));
    flagshm_close(&flags);
    return 0;
}
