/* SPDX-License-Identifier: MIT */
/* opens <library> - a program with threads that loads the library after its start, uses it from threads born before and
 * after that, and goes on using it after dlclose. Its own malloc stays what it was. */
#include "ask.h"

#include <dlfcn.h>
#include <pthread.h>

static void *(*take)(size_t);
static void (*give)(void *);
static int (*query)(const void *, allot_info *);
static pthread_barrier_t loaded;

static void use(void)
{
    void *blocks[100];
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = take(i * 100);
        EXPECT(is_block_by(query, blocks[i]));
    }
    for (size_t i = 0; i < 100; i++)
        give(blocks[i]);
}

static void *born_before(void *argument)
{
    free(malloc(10));
    pthread_barrier_wait(&loaded);
    use();
    return argument;
}

static void *born_after(void *argument)
{
    use();
    return argument;
}

int main(int argc, char **argv)
{
    EXPECT(argc == 2);
    pthread_t threads[2];
    pthread_barrier_init(&loaded, NULL, 2);
    EXPECT(pthread_create(&threads[0], NULL, born_before, NULL) == 0);

    void *before = malloc(100);
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library)
        fprintf(stderr, "%s\n", dlerror());
    EXPECT(library != NULL);
    *(void **)&take = dlsym(library, "allot_malloc");
    *(void **)&give = dlsym(library, "allot_free");
    *(void **)&query = dlsym(library, "allot_query");
    EXPECT(take && give && query);

    pthread_barrier_wait(&loaded);
    EXPECT(pthread_create(&threads[1], NULL, born_after, NULL) == 0);
    use();
    void *own = malloc(100);
    EXPECT(!is_block_by(query, before) && !is_block_by(query, own));
    for (int i = 0; i < 2; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);

    void *kept = take(10);
    EXPECT(dlclose(library) == 0);
    EXPECT(is_block_by(query, kept));
    give(kept);
    use();
    free(own);
    free(before);
    return 0;
}
