/* buckets_probe: what the header makes of ids, for tests/cli/buckets.sh, which holds it against Python's hashlib.
 *
 *     buckets_probe WEIGHT,WEIGHT,... SALT... <IDS
 * IDS holds one id a line: any bytes but NUL and newline. For each salt, for each id, one line:
 *     BUCKET FIRST INS ARM HASH
 * BUCKET 0...99999; FIRST the least whole percent at which the id gets the variant; INS at how many of 0...100 % it does; ARM of as
 * many variants as there are weights; HASH is id_hash in hexadecimal. All through real tables and flagshm_decide_ref.
 */
#include "image_fixture.h"

#include <inttypes.h>
#include <stdio.h>

#define PERCENTS 101

struct probe {
    struct flagshm_flag flags[PERCENTS + 1];
    struct flagshm_table_entry entries[PERCENTS + 1];
    char names[PERCENTS + 1][16];
    struct flagshm_arm arms[2], many[FLAGSHM_ARMS_MAX];
    uint32_t many_count;
    struct flagshm_table table;
    unsigned char *image;
    struct flagshm fs;
    struct flagshm_map_ map;
    struct flagshm_ref refs[PERCENTS + 1];
};

static struct flagshm_arm arm_named(const char *name, uint32_t weight)
{
    return (struct flagshm_arm){.name = name,
                                .model = name,
                                .model_bytes = strlen(name),
                                .value = name,
                                .value_bytes = strlen(name),
                                .weight = weight};
}

static bool read_weights(struct probe *p, const char *text)
{
    static const char *const names[] = {"control", "v1", "v2", "v3", "v4", "v5", "v6", "v7"};

    p->arms[0] = p->many[0] = arm_named("control", 1);
    p->arms[1] = arm_named("variant", 1);
    for (p->many_count = 1; p->many_count < FLAGSHM_ARMS_MAX; text++) {
        char *end;
        unsigned long weight = strtoul(text, &end, 10);

        if (end == text || weight > FLAGSHM_WEIGHT_MAX)
            return false;
        p->many[p->many_count] = arm_named(names[p->many_count], (uint32_t)weight);
        p->many_count++;
        text = end;
        if (*text != ',')
            return *text == '\0';
    }
    return false;
}

/* One flag for each whole percent, and one with all weights at 100 %; all with one salt. */
static bool open_salt(struct probe *p, const char *salt)
{
    uint32_t i;
    size_t bytes;

    for (i = 0; i <= PERCENTS; i++) {
        struct flagshm_flag *flag = &p->flags[i];

        (void)snprintf(p->names[i], sizeof p->names[i], "flag-%" PRIu32, i);
        memset(flag, 0, sizeof *flag);
        flag->name = p->names[i];
        flag->name_bytes = strlen(p->names[i]);
        flag->salt = salt;
        flag->salt_bytes = strlen(salt);
        flag->enabled = true;
        flag->rollout_mpct = i < PERCENTS ? i * 1000 : FLAGSHM_MPCT_FULL;
        flag->arms = i < PERCENTS ? p->arms : p->many;
        flag->arm_count = i < PERCENTS ? 2 : p->many_count;
        p->entries[i].flag = flag;
    }
    if (flagshm_table_build(&p->table, p->entries, PERCENTS + 1, NULL) != 0)
        return false;
    p->image = image_make(&p->table, 1, &bytes);
    if (!p->image || image_attach(&p->fs, &p->map, p->image, bytes) != 0)
        return false;
    for (i = 0; i <= PERCENTS; i++)
        if (flagshm_resolve(&p->fs, p->names[i], &p->refs[i]) != 0)
            return false;
    return true;
}

static void close_salt(struct probe *p)
{
    free(p->image);
    flagshm_table_free(&p->table);
}

static void print_id(struct probe *p, const char *id)
{
    struct flagshm_decision d;
    uint32_t bucket, first = PERCENTS, ins = 0, i;

    for (i = 0; i < PERCENTS; i++) {
        (void)flagshm_decide_ref(&p->fs, &p->refs[i], id, &d);
        if (d.arm != 0) {
            ins++;
            first = first < i ? first : i;
        }
    }
    (void)flagshm_decide_ref(&p->fs, &p->refs[1], id, &d);
    bucket = d.bucket;
    (void)flagshm_decide_ref(&p->fs, &p->refs[PERCENTS], id, &d);
    printf("%" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %016" PRIx64 "\n", bucket, first, ins, d.arm,
           d.id_hash);
}

int main(int argc, char **argv)
{
    static struct probe p;
    char *text = NULL, *line;
    size_t room = 0, bytes = 0, got;
    int i;

    if (argc < 3 || !read_weights(&p, argv[1])) {
        (void)fprintf(stderr, "usage: buckets_probe WEIGHT,WEIGHT,... SALT... <IDS\n");
        return 2;
    }
    do {
        room = room * 2 + 65536;
        text = realloc(text, room + 1);
        if (!text)
            return 1;
        got = fread(text + bytes, 1, room - bytes, stdin);
        bytes += got;
    } while (got != 0);
    text[bytes] = '\0';
    for (i = 2; i < argc; i++) {
        if (!open_salt(&p, argv[i])) {
            (void)fprintf(stderr, "buckets_probe: no table for the salt \"%s\"\n", argv[i]);
            return 1;
        }
        for (line = text; *line != '\0';) {
            char *end = strchr(line, '\n');

            if (!end)
                break;
            *end = '\0';
            print_id(&p, line);
            *end = '\n';
            line = end + 1;
        }
        close_salt(&p);
    }
    free(text);
    return 0;
}
