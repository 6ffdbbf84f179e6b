/* word: see the header. */
#include "tools/word.h"
#include "server/flagfile.h"
#include "tools/change.h"

#include <string.h>

int flagctl_word_begin(struct flagctl *ctl, struct flagctl_word *word, int argc, char **argv)
{
    const char *command = ctl->command->name;

    word->flag = argc > 0 ? argv[0] : NULL;
    if ((flagctl_option(ctl, "all") != NULL) == (word->flag != NULL))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "%s needs one FLAG, or --all", command);
    if (word->flag != NULL && !flagshm_is_flag_name(word->flag, strlen(word->flag)))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            word->flag);
    word->result = cJSON_CreateObject();
    return FLAGCTL_OK;
}

int flagctl_word_end(struct flagctl *ctl, struct flagctl_word *word, int code)
{
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, word->result);
    cJSON_Delete(word->result);
    return code;
}

const char *flagctl_word_name(const struct flagctl_word *word)
{
    return word->flag != NULL ? word->flag : "all flags";
}

int flagctl_word_done(struct flagctl *ctl, struct flagctl_word *word, const char *by, bool already,
                      uint64_t version, const char *sentence)
{
    bool has_undo = !already || word->always_undo;
    char again[2048];

    (void)flagctl_again(ctl, again, "%s %s", word->undo, word->flag != NULL ? word->flag : "--all");
    if (!ctl->is_json) {
        (void)fprintf(ctl->out, "%s: %s\n", flagctl_word_name(word), sentence);
        if (has_undo)
            (void)fprintf(ctl->out, "undo: %s\n", again);
        return FLAGCTL_OK;
    }
    if (word->flag != NULL)
        (void)cJSON_AddStringToObject(word->result, "flag", word->flag);
    else
        (void)cJSON_AddNullToObject(word->result, "flag");
    (void)cJSON_AddBoolToObject(word->result, "all", word->flag == NULL);
    (void)cJSON_AddBoolToObject(word->result, "already", already);
    (void)cJSON_AddStringToObject(word->result, "by", by);
    if (version != 0)
        flagctl_json_u64(word->result, "version", version);
    if (has_undo)
        (void)cJSON_AddStringToObject(word->result, "undo", again);
    return FLAGCTL_OK;
}

uint64_t flagctl_word_version(const cJSON *answer, bool *already)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(answer, "version");
    const char *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "code"));

    *already = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "already")) ||
               (code != NULL && strcmp(code, "already") == 0);
    return cJSON_IsNumber(number) && number->valuedouble > 0 ? (uint64_t)number->valuedouble : 0;
}

struct flagctl_seen flagctl_word_look(struct flagctl *ctl, const struct flagctl_word *word)
{
    struct flagctl_seen seen = {.is_known = true,
                                .age_ns = INT64_MAX}; /* what cannot be read cannot be held against it */
    const struct flagshm_snapshot_flag *flag;
    struct flagshm_snapshot snapshot;
    struct flagshm *client;

    if (flagctl_client(ctl, &client) != 0 || flagshm_snapshot_take(&snapshot, client, NULL) != 0)
        return seen;
    flag = word->flag != NULL ? flagshm_snapshot_find(&snapshot, word->flag) : NULL;
    seen.is_there = true;
    seen.version = snapshot.version;
    seen.age_ns = snapshot.age_ns;
    seen.is_known = word->flag == NULL || flag != NULL;
    seen.is_killed = word->flag == NULL ? snapshot.is_all_control
                                        : flag != NULL && (flag->switches & FLAGSHM_SWITCH_KILLED) != 0;
    flagshm_snapshot_free(&snapshot);
    return seen;
}
