/* SPDX-License-Identifier: MIT */
/* plugin_loader.c - plugins whose data files stay mapped as long as anybody uses what they made.
 *
 * A plugin maps its data and hands out objects that point into it. The host may drop the plugin at any moment: what its
 * objects need stays until the last of them is gone, and the finalizer tells when that was. (Here the plugins are
 * functions of this program, so that it runs anywhere; with dlopen nothing is different, as data of libraries that are
 * loaded later is looked through too.)
 */
#include <allot/gcmap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct shape {
    const char *name; /* in the plugin's data */
    int corners;
};

struct plugin {
    const char *name;
    char *data; /* a collected mapping */
    allot_weak *watch;
};

/* What a function holds in registers and in its frame counts as long as it runs: what is to be forgotten is touched in
 * functions of their own, which the compiler may not make part of main. */
#define APART __attribute__((noinline))

static int n_gone;

static void data_is_gone(void *begin, size_t length, void *context)
{
    (void)length;
    n_gone++;
    printf("  the data of %s goes (it began with \"%s\")\n", (const char *)context, (const char *)begin);
}

static char *map_data(const char *name, const char *contents)
{
    FILE *file = tmpfile();
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.name = name;
    opts.finalizer = data_is_gone;
    opts.context = (void *)name;
    if (file == NULL || ftruncate(fileno(file), 4096) != 0) {
        perror("tmpfile");
        exit(1);
    }
    char *data = allot_gcmap_with(fileno(file), 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, &opts);
    fclose(file);
    if (data == MAP_FAILED) {
        perror("allot_gcmap");
        exit(1);
    }
    strcpy(data, contents);
    return data;
}

static struct plugin *load(const char *name, const char *contents)
{
    struct plugin *plugin = malloc(sizeof *plugin);
    plugin->name = name;
    plugin->data = map_data(name, contents);
    plugin->watch = allot_weak_create(plugin->data);
    return plugin;
}

static struct shape *make_shape(const struct plugin *plugin, int corners)
{
    struct shape *shape = malloc(sizeof *shape);
    *shape = (struct shape){plugin->data, corners};
    return shape;
}

/* Whether the data is there, without keeping it. */
APART static const char *is_there(const allot_weak *watch)
{
    return allot_weak_get(watch) != NULL ? "there" : "gone";
}

static void collect(void)
{
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    if (allot_gcmap_collect(&told) != 0) {
        printf("  not collected: %s\n", told.why);
        exit(1);
    }
}

APART static struct shape *use_and_unload(allot_weak **watch)
{
    struct plugin *plugin = load("triangles", "triangle");
    struct shape *shape = make_shape(plugin, 3);
    *watch = plugin->watch;
    free(plugin); /* the host unloads it; the shape lives on */
    return shape;
}

APART static void describe(const struct shape *shape)
{
    printf("the shape is a %s with %d corners\n", shape->name, shape->corners);
}

/* The host's work: when it returns, no shape is left. */
APART static allot_weak *run_host(void)
{
    allot_weak *watch;
    struct shape *shape = use_and_unload(&watch);
    collect();
    printf("plugin unloaded, a shape left: its data is %s, ", is_there(watch));
    describe(shape);
    free(shape);
    return watch;
}

int main(void)
{
    allot_weak *watch = run_host();
    collect();
    printf("no shape left: its data is %s\n", is_there(watch));
    allot_weak_destroy(watch);
    return n_gone == 1 ? 0 : 1;
}
