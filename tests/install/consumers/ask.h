/* SPDX-License-Identifier: MIT */
/* ask.h - what every consumer asks: whose is this block? */
#ifndef CONSUMERS_ASK_H
#define CONSUMERS_ASK_H

#include <allot/allot.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT(x)                                                                                                      \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #x);                                           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#ifdef PRELOADED /* the program was not linked to allot */
#include <dlfcn.h>

static inline int query_by_name(const void *p, allot_info *info)
{
    int (*query)(const void *, allot_info *);
    *(void **)&query = dlsym(RTLD_DEFAULT, "allot_query");
    EXPECT(query != NULL);
    return query(p, info);
}
#define allot_query query_by_name
#endif

/* A live block of allot's heap that begins here, or whatever query says otherwise. */
static inline int is_block_by(int (*query)(const void *, allot_info *), const void *p)
{
    allot_info info = ALLOT_INFO_INIT;
    return query(p, &info) == 0 && info.room == ALLOT_ROOM_HEAP && info.base == p && info.state == ALLOT_STATE_LIVE;
}

#endif
