/* top_screen: a terminal taken over and given back: alternate screen, keys one by one, its size, waiting. */
#ifndef FLAGSHM_TOOLS_TOP_SCREEN_H
#define FLAGSHM_TOOLS_TOP_SCREEN_H

#include <stdbool.h>

enum top_key { /* else the character itself */
               TOP_KEY_NONE = 0,
               TOP_KEY_ENTER = '\r',
               TOP_KEY_ESCAPE = 27,
               TOP_KEY_ERASE = 127,
               TOP_KEY_UP = 256,
               TOP_KEY_DOWN,
               TOP_KEY_PAGE_UP,
               TOP_KEY_PAGE_DOWN,
               TOP_KEY_HOME
};

/* Asks signals that end (INT, TERM, HUP, QUIT) to end the loop instead, and lets them in only while top_screen_wait sleeps. With `is_screen` takes
 * the terminal: top_screen_leave must follow, whatever happens. */
void top_screen_enter(bool is_screen);
void top_screen_leave(void);

/* Sleeps until `seconds` have passed (TOP_KEY_NONE), a key comes, or a signal, or the size changes (both TOP_KEY_NONE). */
int top_screen_wait(double seconds);
void top_screen_size(int *columns, int *rows);

#endif
