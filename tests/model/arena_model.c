/* SPDX-License-Identifier: MIT */
/* arena_model.c - the same stream of calls on an arena and on a naive model: a sorted list of the live blocks. On every
 * backend and in every shape, one after the other.
 *
 *     arena_model [<seed> [<calls a pair> [<a check every so many calls>]]]
 *
 * After each check the arena's books are whole, its figures and its walk are the model's, and every block holds what
 * was written to it. A failure prints what runs the same again.
 */
#include "../unit/arena_test.h"

#include <errno.h>
#include <inttypes.h>

enum { MOST_BLOCKS = 600, REPORT_FD = 37 };

struct block {
    unsigned char *begin;
    size_t bytes;  /* whole words */
    unsigned seed; /* of its pattern: of all of its bytes that were asked for */
    size_t asked;
};

static struct {
    uint64_t seed, random;
    size_t n_calls, check_every, call;
    struct block blocks[MOST_BLOCKS]; /* by address */
    size_t n;
    size_t live_bytes;
    struct made made;
} model;

static void wrong(const char *what)
{
    dprintf(REPORT_FD, "arena_model: %s; on %s, %s, call %zu: arena_model %" PRIu64 " %zu %zu\n", what, ground->name,
            shape->name, model.call, model.seed, model.n_calls, model.check_every);
    abort();
}

static void require(bool is_right, const char *what)
{
    if (!is_right) {
        wrong(what);
    }
}

static size_t pick(size_t below)
{
    return random_below(&model.random, below);
}

static size_t in_words(size_t bytes)
{
    return (bytes + WORD - 1) / WORD * WORD;
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

/* The first block that begins at the address or behind it. */
static size_t place_of(const unsigned char *begin)
{
    size_t low = 0;
    size_t high = model.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (model.blocks[middle].begin < begin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void model_add(unsigned char *begin, size_t asked, size_t bytes, unsigned seed)
{
    size_t at = place_of(begin);
    require(at == model.n || begin + bytes <= model.blocks[at].begin, "a block overlaps the one behind it");
    require(at == 0 || model.blocks[at - 1].begin + model.blocks[at - 1].bytes <= begin,
            "a block overlaps the one before it");
    memmove(&model.blocks[at + 1], &model.blocks[at], (model.n - at) * sizeof model.blocks[0]);
    model.blocks[at] = (struct block){begin, bytes, seed, asked};
    model.n++;
    model.live_bytes += bytes;
}

static void model_remove(size_t at)
{
    model.live_bytes -= model.blocks[at].bytes;
    model.n--;
    memmove(&model.blocks[at], &model.blocks[at + 1], (model.n - at) * sizeof model.blocks[0]);
}

static void check_contents(const struct block *block)
{
    require(pattern_holds(block->begin, block->asked, block->seed), "a block lost its contents");
}

struct walked {
    size_t live, at_least_free, n_live;
};

static int compare_block(const allot_info *info, void *context)
{
    struct walked *walked = context;
    if (info->state != ALLOT_STATE_LIVE) {
        walked->at_least_free += info->size_bytes;
        return 0;
    }
    walked->live += info->size_bytes;
    walked->n_live++;
    size_t at = place_of(info->base);
    return at < model.n && model.blocks[at].begin == info->base && model.blocks[at].bytes == info->size_bytes ? 0 : 1;
}

static void check_all(void)
{
    struct walked walked = {0, 0, 0};
    allot_arena *arena = model.made.arena;
    require(allot_arena_check(arena) == 0, "the books are not whole");
    size_t capacity = allot_arena_capacity(arena);
    require(capacity - allot_arena_free_bytes(arena) == model.live_bytes, "the live bytes differ");
    require(allot_arena_walk(arena, compare_block, &walked) == 0, "the walk tells a block that the model doesn't have");
    require(walked.n_live == model.n && walked.live == model.live_bytes, "the walk misses a block");
    require(walked.at_least_free + walked.live == capacity, "the walk misses free memory");
    if (model.n > 0) {
        check_contents(&model.blocks[pick(model.n)]);
    }
}

/* ---- calls --------------------------------------------------------------------------------------------------------
 */

static size_t some_size(void)
{
    size_t kind = pick(100);
    return 1 + (kind < 70 ? pick(200) : kind < 97 ? pick(3000) : pick(60000));
}

static void fill_new(unsigned char *begin, size_t asked)
{
    unsigned seed = (unsigned)pick(1000);
    require(allot_arena_usable_size(model.made.arena, begin) == in_words(asked), "a block of another size");
    require(allot_arena_contains(model.made.arena, begin + asked - 1) == 1, "a block outside of the arena");
    pattern_fill(begin, asked, seed);
    model_add(begin, asked, in_words(asked), seed);
}

static void take(void)
{
    size_t asked = some_size();
    size_t alignment = WORD;
    unsigned char *begin;
    if (model.n == MOST_BLOCKS) {
        return;
    }
    errno = 0;
    switch (pick(4)) {
    case 0:
        begin = allot_arena_calloc(model.made.arena, 1, asked);
        require(begin == NULL || all_zero(begin, asked), "calloc's memory is not zero");
        break;
    case 1:
        alignment = WORD << pick(pick(8) == 0 ? 9 : 4);
        begin = allot_arena_memalign(model.made.arena, alignment, asked);
        break;
    default:
        begin = allot_arena_malloc(model.made.arena, asked);
    }
    require(begin != NULL || errno == ENOMEM, "another error than ENOMEM");
    require((ground->can & CAN_GROW) == 0 || begin != NULL, "a growing arena is full");
    if (begin != NULL) {
        require(is_aligned(begin, alignment), "a block that is not aligned");
        fill_new(begin, asked);
    }
}

static void give(size_t at)
{
    struct block block = model.blocks[at];
    check_contents(&block);
    model_remove(at);
    int error = pick(2) == 0 ? allot_arena_free(model.made.arena, block.begin)
                             : allot_arena_free_sized(model.made.arena, block.begin, block.asked);
    require(error == 0, "a right free is refused");
}

/* Some words out of a block: what is left of it before and behind are blocks. */
static void give_part(size_t at)
{
    struct block block = model.blocks[at];
    size_t words = block.bytes / WORD;
    size_t begin = pick(words);
    size_t n = 1 + pick(words - begin);
    if (model.n == MOST_BLOCKS) {
        return;
    }
    check_contents(&block);
    require(allot_arena_free_sized(model.made.arena, block.begin + begin * WORD, n * WORD) == 0, "a part is refused");
    model_remove(at);
    size_t pieces[2][2] = {{0, begin}, {begin + n, words}};
    for (size_t i = 0; i < 2; i++) {
        size_t bytes = (pieces[i][1] - pieces[i][0]) * WORD;
        if (bytes != 0) {
            unsigned char *rest = block.begin + pieces[i][0] * WORD;
            size_t asked = pieces[i][1] == words ? block.asked - pieces[i][0] * WORD : bytes;
            size_t kept = pieces[i][0] == 0 ? asked : 0;
            require(kept == 0 || pattern_holds(rest, kept, block.seed), "a part lost its contents");
            pattern_fill(rest, asked, block.seed);
            model_add(rest, asked, bytes, block.seed);
        }
    }
}

static void resize(size_t at)
{
    struct block block = model.blocks[at];
    size_t asked = some_size();
    unsigned char *moved = allot_arena_realloc(model.made.arena, block.begin, asked);
    require(moved != NULL || (ground->can & CAN_GROW) == 0, "a growing arena is full");
    if (moved != NULL) {
        require(pattern_holds(moved, asked < block.asked ? asked : block.asked, block.seed), "realloc lost contents");
        model_remove(at);
        fill_new(moved, asked);
    }
}

static void shrink(size_t at)
{
    struct block block = model.blocks[at];
    size_t asked = 1 + pick(block.asked);
    require(allot_arena_shrink(model.made.arena, block.begin, asked) == 0, "a shrink is refused");
    check_contents(&(struct block){block.begin, block.bytes, block.seed, asked});
    model_remove(at);
    model_add(block.begin, asked, in_words(asked), block.seed);
}

static void take_and_give_a_batch(void)
{
    void *blocks[40];
    size_t n = allot_arena_malloc_batch(model.made.arena, some_size() % 500 + 1, blocks, COUNT(blocks));
    for (size_t i = 0; i < n; i++) {
        size_t at = place_of(blocks[i]);
        require(at == model.n || model.blocks[at].begin != blocks[i], "a batch with a live block");
        *(unsigned char *)blocks[i] = 0xbb;
    }
    require(allot_arena_free_batch(model.made.arena, blocks, n) == 0, "a batch is refused");
}

/* A free that is wrong must be found, whatever it is. */
static void misuse_it(void)
{
    unsigned char *p;
    size_t bytes = 0;
    if (model.n > 0 && pick(2) == 0) {
        struct block *block = &model.blocks[pick(model.n)];
        if (pick(2) == 0) {
            p = block->begin + 1 + pick(block->bytes - 1); /* inside */
        } else {
            p = block->begin;
            bytes = block->bytes + 1 + pick(1000); /* too long */
        }
    } else {
        p = model.n > 0 ? model.blocks[pick(model.n)].begin - pick(5000) : (unsigned char *)&model;
        size_t at = place_of(p);
        if (at < model.n && model.blocks[at].begin == p) {
            return;
        }
    }
    misuse.n = 0;
    int error = bytes == 0 ? allot_arena_free(model.made.arena, p) : allot_arena_free_sized(model.made.arena, p, bytes);
    require(error == EINVAL && misuse.n == 1, "a wrong free is taken");
}

static void start_anew(void)
{
    require(allot_arena_reset(model.made.arena) == 0, "no reset");
    model.n = 0;
    model.live_bytes = 0;
    check_all();
}

static void one_call(void)
{
    size_t kind = pick(1000);
    if (kind < 1) {
        start_anew();
    } else if (kind < 5) {
        allot_arena_trim(model.made.arena, pick(2) * 10000);
    } else if (kind < 15) {
        take_and_give_a_batch();
    } else if (kind < 25) {
        misuse_it();
    } else if (kind < 550 || model.n == 0) {
        take();
    } else if (kind < 880) {
        give(pick(model.n));
    } else if (kind < 910) {
        give_part(pick(model.n));
    } else if (kind < 950) {
        shrink(pick(model.n));
    } else {
        resize(pick(model.n));
    }
}

static void run_pair(void)
{
    bool is_small = (ground->can & CAN_GROW) == 0;
    allot_arena_options options = shape_options();
    options.keep_bytes = pick(2) * 64 * KIB;
    make_arena_with(&model.made, is_small ? 100 * KIB : pick(2) * 20000, options);
    model.n = 0;
    model.live_bytes = 0;
    for (model.call = 1; model.call <= model.n_calls; model.call++) {
        one_call();
        if (model.call % model.check_every == 0) {
            check_all();
        }
    }
    while (model.n > 0) {
        give(pick(model.n));
    }
    check_all();
    unmake(&model.made);
}

int main(int argc, char **argv)
{
    model.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)getpid();
    model.n_calls = argc > 2 ? strtoull(argv[2], NULL, 0) : 10000;
    model.check_every = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    model.seed += model.seed == 0;
    model.random = model.seed;
    if (dup2(2, REPORT_FD) < 0 || freopen("/dev/null", "w", stderr) == NULL) { /* a line for each misuse */
        return 1;
    }
    for (ground = grounds; ground < grounds + COUNT(grounds); ground++) {
        for (shape = shapes; shape < shapes + GENERAL_SHAPES; shape++) {
            run_pair();
        }
    }
    return 0;
}
