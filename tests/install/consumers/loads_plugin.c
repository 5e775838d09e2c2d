/* SPDX-License-Identifier: MIT */
/* loads_plugin <plugin> - a C program on allot; C++ comes in later, and its handlers and exceptions are found. */
#include "ask.h"

#include <dlfcn.h>

int main(int argc, char **argv)
{
    EXPECT(argc == 2);
    void *block = malloc(10);
    EXPECT(is_block_by(allot_query, block));
    free(block);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        fprintf(stderr, "%s\n", dlerror());
    EXPECT(plugin != NULL);
    int (*catches)(void);
    *(void **)&catches = dlsym(plugin, "plugin_catches_bad_alloc");
    EXPECT(catches != NULL && catches());
    return 0;
}
