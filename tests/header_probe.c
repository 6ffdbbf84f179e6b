/* header_probe: client/flagshm.h in strict C, for tests/cli/header.sh, which compiles it in many ways and compares what it prints.
 *
 *     header_probe layout              sizes and offsets: the same for every program of a host, 32 bits or 64
 *     header_probe hash                digests, buckets, lots and hashes of many lengths
 *     header_probe table FLAG...       decisions of the table of $FLAGSHM_INSTANCE, in C, in a second unit, and in C++
 */
#include "header_units.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE(type)          printf("sizeof %s %u\n", #type, (unsigned)sizeof(struct type))
#define OFFSET(type, field) printf("%s.%s %u\n", #type, #field, (unsigned)offsetof(struct type, field))

static int print_layout(void)
{
    SIZE(flagshm_header);
    SIZE(flagshm_bank);
    SIZE(flagshm_flag_entry);
    SIZE(flagshm_arm_entry);
    SIZE(flagshm_force_id);
    SIZE(flagshm_decision);
    OFFSET(flagshm_header, seq);
    OFFSET(flagshm_header, heartbeat_mono_ns);
    OFFSET(flagshm_header, bank_offset);
    OFFSET(flagshm_header, heap_bytes);
    OFFSET(flagshm_header, arm_stride);
    OFFSET(flagshm_header, reserved_geometry);
    OFFSET(flagshm_header, socket_path);
    OFFSET(flagshm_header, reserved_header);
    OFFSET(flagshm_bank, version);
    OFFSET(flagshm_bank, published_mono_ns);
    OFFSET(flagshm_bank, heap_used);
    OFFSET(flagshm_bank, reserved_bank);
    OFFSET(flagshm_flag_entry, name_bytes);
    OFFSET(flagshm_flag_entry, arm_count);
    OFFSET(flagshm_flag_entry, prefix_bytes);
    OFFSET(flagshm_flag_entry, arms_offset);
    OFFSET(flagshm_flag_entry, md5_state);
    OFFSET(flagshm_flag_entry, stage);
    OFFSET(flagshm_flag_entry, changed_version);
    OFFSET(flagshm_arm_entry, model_offset);
    OFFSET(flagshm_arm_entry, value_bytes);
    OFFSET(flagshm_arm_entry, fingerprint);
    OFFSET(flagshm_force_id, arm);
    OFFSET(flagshm_decision, arm);
    OFFSET(flagshm_decision, reason);
    OFFSET(flagshm_decision, shadow);
    OFFSET(flagshm_decision, model);
    OFFSET(flagshm_decision, value);
    SIZE(flagshm_outcomes);
    SIZE(flagshm_slot);
    SIZE(flagshm_arm_outcomes);
    SIZE(flagshm_signal);
    OFFSET(flagshm_header, window_4h);
    OFFSET(flagshm_header, outcomes_id);
    OFFSET(flagshm_outcomes, segment_id);
    OFFSET(flagshm_outcomes, dirty);
    OFFSET(flagshm_outcomes, armed);
    OFFSET(flagshm_outcomes, rung);
    OFFSET(flagshm_outcomes, shadow_tokens);
    OFFSET(flagshm_slot, arm_count);
    OFFSET(flagshm_slot, is_open);
    OFFSET(flagshm_slot, lost_window);
    OFFSET(flagshm_slot, flag);
    OFFSET(flagshm_slot, signals);
    OFFSET(flagshm_slot, capped_bad);
    OFFSET(flagshm_slot, levels);
    OFFSET(flagshm_slot, distinct);
    OFFSET(flagshm_slot, seen);
    OFFSET(flagshm_slot, calls);
    OFFSET(flagshm_slot, arms);
    OFFSET(flagshm_slot, cells);
    OFFSET(flagshm_signal, first_table);
    OFFSET(flagshm_signal, threshold);
    OFFSET(flagshm_arm_outcomes, histograms);
    return 0;
}

static int print_hashes(void)
{
    struct flagshm_md5_prefix_ prefix = {{0}, FLAGSHM_MD5_INIT_, FLAGSHM_MD5_INIT_, 0};
    size_t length, i;

    for (length = 0; length < 300; length++) {
        unsigned char *bytes = (unsigned char *)malloc(length ? length : 1);
        uint32_t words[4];

        if (bytes == NULL)
            return 1;
        for (i = 0; i < length; i++)
            bytes[i] = (unsigned char)(length * 7 + i * 31 + 1);
        flagshm_md5_id_(&prefix, bytes, length, words);
        printf("%u %08" PRIx32 "%08" PRIx32 "%08" PRIx32 "%08" PRIx32, (unsigned)length, words[0], words[1],
               words[2], words[3]);
        printf(" %" PRIu32 " %" PRIu32 " %" PRIu32, flagshm_bucket_(words), flagshm_lot_(words, 7),
               flagshm_lot_(words, 6999999));
        printf(" %016" PRIx64 "\n", flagshm_hash64_(bytes, length, length));
        free(bytes);
    }
    return 0;
}

static bool is_same(const struct flagshm_decision *a, const struct flagshm_decision *b)
{
    return a->version == b->version && a->segment_id == b->segment_id && a->flag_hash == b->flag_hash &&
           a->id_hash == b->id_hash && a->value_hash == b->value_hash && a->arm == b->arm &&
           a->bucket == b->bucket && a->rollout_mpct == b->rollout_mpct && a->reason == b->reason &&
           a->slot == b->slot && a->slot_generation == b->slot_generation &&
           a->value_bytes == b->value_bytes && a->shadow == b->shadow &&
           strcmp(a->arm_name, b->arm_name) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->shadow_model, b->shadow_model) == 0 && strcmp(a->stage, b->stage) == 0 &&
           strcmp(a->value, b->value) == 0;
}

static int print_flag(struct flagshm *fs, const char *flag)
{
    static char value[65537];
    struct flagshm_decision d, other;
    struct flagshm_ref ref;
    int n, found = flagshm_resolve(fs, flag, &ref);

    printf("%s %d %.3f %.3f\n", flag, found, flagshm_rollout_pct(fs, flag),
           flagshm_rollout_pct_ref(fs, &ref));
    for (n = 0; n < 200; n++) {
        char id[100];
        int64_t bytes;

        (void)snprintf(id, sizeof id, "user-%.*d", n % 70 + 1, n);
        (void)flagshm_decide(fs, flag, n == 0 ? "" : id, &d);
        (void)flagshm_decide_ref(fs, &ref, n == 0 ? NULL : id, &other);
        if (!is_same(&d, &other)) {
            (void)fprintf(stderr, "header_probe: a reference decides otherwise: %s %s\n", flag, id);
            return 1;
        }
        header_unit_c(fs, flag, n == 0 ? "" : id, &other);
        if (!is_same(&d, &other) || header_unit_cpp(fs, flag, n == 0 ? "" : id, &other) != d.reason ||
            !is_same(&d, &other)) {
            (void)fprintf(stderr, "header_probe: another unit decides otherwise: %s %s\n", flag, id);
            return 1;
        }
        bytes = flagshm_value(fs, &d, value, sizeof value);
        printf("%s %" PRIu64 " %016" PRIx64 " %016" PRIx64 " %" PRIu32 " %" PRIu32 " %" PRIu32
               " %s %s [%s] %s %ld %016" PRIx64 "\n",
               id, d.version, d.flag_hash, d.id_hash, d.arm, d.bucket, d.rollout_mpct,
               flagshm_reason_name(d.reason), d.arm_name, d.model, d.stage, (long)bytes,
               bytes < 0 ? 0 : flagshm_hash64_(value, (size_t)bytes, 0));
    }
    return 0;
}

static int print_table(char **flags)
{
    struct flagshm fs;
    int error = flagshm_open(&fs, NULL), result = 0;

    if (error != 0) {
        (void)fprintf(stderr, "header_probe: flagshm_open: %d\n", error);
        return 1;
    }
    printf("version %" PRIu64 " wait %d %d\n", flagshm_version(&fs), flagshm_wait(&fs, 0, 1000),
           flagshm_wait(&fs, flagshm_version(&fs), 10));
    if (flagshm_age_ns(&fs) < 0 || flagshm_age_ns(&fs) > INT64_C(600000000000)) {
        (void)fprintf(stderr, "header_probe: age %" PRId64 "\n", flagshm_age_ns(&fs));
        result = 1;
    }
    for (; *flags != NULL && result == 0; flags++)
        result = print_flag(&fs, *flags);
    flagshm_close(&fs);
    return result;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "layout") == 0)
        return print_layout();
    if (argc == 2 && strcmp(argv[1], "hash") == 0)
        return print_hashes();
    if (argc > 2 && strcmp(argv[1], "table") == 0)
        return print_table(argv + 2);
    (void)fprintf(stderr, "usage: header_probe layout|hash|table FLAG...\n");
    return 2;
}
