/* top_draw: what `flagctl top` shows of its model: a table of a screen, plain lines, or JSON. */
#ifndef FLAGSHM_TOOLS_TOP_DRAW_H
#define FLAGSHM_TOOLS_TOP_DRAW_H

#include "tools/top_model.h"

#define TOP_FILTER_MAX 64

enum top_order { TOP_BY_CALLS, TOP_BY_ERRORS, TOP_BY_LATENCY, TOP_BY_TOKENS, TOP_BY_NAME, TOP_ORDERS };

extern const char *const top_order_words[TOP_ORDERS];

struct top_showing {
    struct flagctl *ctl;
    struct top top;
    enum top_order order;
    char filter[TOP_FILTER_MAX + 1];
    const struct top_flag *shown[FLAGSHM_SLOTS];
    size_t count; /* of flags that pass the filter, in order */
    size_t first; /* row that the screen begins with */
    double interval_s;
    long refreshes, wanted; /* 0: without end */
    bool is_screen, is_paused, is_typing;
};

/* Draws a screen, or prints lines. */
void top_draw(struct top_showing *s);
/* Prints an object. Returns an exit code. */
int top_print_json(struct top_showing *s);
/* Printable ASCII alone, all else as '?': its bytes are its columns. */
void top_plain_text(const char *text, char *out, size_t room);

#endif
