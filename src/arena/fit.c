/* SPDX-License-Identifier: MIT */
/* fit.c - which free block of a segment a request gets.
 *
 * Good and best fit: a list of free blocks for each bin, and a bit a bin that has one. Up to 63 words a bin has one
 * size, so the first bin that isn't empty is the best fit. Longer ones: good fit takes the first bin whose blocks all
 * fit, best fit looks through the bin in which the smallest that fits would be.
 *
 * First fit: how long the longest free block is that begins in a group of 64 words; above that, of eight groups, of 64,
 * and so on. The way down to the first group that has a long enough one is the search.
 */
#include "arena/arena_internal.h"

#include <string.h>

/* ---- bins ---------------------------------------------------------------------------------------------------- */

unsigned bin_of(size_t words)
{
    if (words < BINS_EXACT) {
        return (unsigned)words;
    }
    unsigned high = bit_highest(words);
    unsigned step = (unsigned)(words >> (high - BIN_STEPS_SHIFT)) % (1u << BIN_STEPS_SHIFT);
    return BINS_EXACT + ((high - 6) << BIN_STEPS_SHIFT) + step;
}

/* The first bin of which every block has so many words. */
static unsigned bin_that_fits(size_t words)
{
    if (words < BINS_EXACT) {
        return (unsigned)words;
    }
    size_t step = (size_t)1 << (bit_highest(words) - BIN_STEPS_SHIFT);
    return bin_of(words + step - 1);
}

static size_t link_next(const struct segment *segment, size_t word)
{
    uint64_t slot = load_relaxed(&segment->slots[word / 2 << segment->wide]);
    return segment->wide ? slot : (uint32_t)slot;
}

static size_t link_prev(const struct segment *segment, size_t word)
{
    const _Atomic uint64_t *slot = &segment->slots[word / 2 << segment->wide];
    return segment->wide ? load_relaxed(slot + 1) : load_relaxed(slot) >> 32;
}

static void link_set(struct segment *segment, size_t word, size_t next, size_t prev)
{
    _Atomic uint64_t *slot = &segment->slots[word / 2 << segment->wide];
    if (segment->wide) {
        store_relaxed(slot, next);
        store_relaxed(slot + 1, prev);
    } else {
        store_relaxed(slot, next | (uint64_t)prev << 32);
    }
}

static void bin_add(struct segment *segment, size_t word, size_t words)
{
    unsigned bin = bin_of(words);
    size_t head = segment->heads[bin];
    link_set(segment, word, head, 0);
    if (head != 0) {
        link_set(segment, head - 1, link_next(segment, head - 1), word + 1);
    }
    segment->heads[bin] = word + 1;
    segment->bin_map[bin / 64] |= (uint64_t)1 << bin % 64;
    segment->bin_top |= 1u << bin / 64;
}

static void bin_remove(struct segment *segment, size_t word, size_t words)
{
    size_t next = link_next(segment, word);
    size_t prev = link_prev(segment, word);
    if (next != 0) {
        link_set(segment, next - 1, link_next(segment, next - 1), prev);
    }
    if (prev != 0) {
        link_set(segment, prev - 1, next, link_prev(segment, prev - 1));
        return;
    }
    unsigned bin = bin_of(words);
    segment->heads[bin] = next;
    if (next == 0) {
        segment->bin_map[bin / 64] &= ~((uint64_t)1 << bin % 64);
        if (segment->bin_map[bin / 64] == 0) {
            segment->bin_top &= ~(1u << bin / 64);
        }
    }
}

/* The first bin from one on that has a block; BINS_MOST: none. */
static unsigned bin_from(const struct segment *segment, unsigned bin)
{
    if (bin >= BINS_MOST) {
        return BINS_MOST;
    }
    uint64_t bits = segment->bin_map[bin / 64] & ~(uint64_t)0 << bin % 64;
    if (bits != 0) {
        return bin / 64 * 64 + bit_lowest(bits);
    }
    uint32_t tops = segment->bin_top & (~(uint32_t)0 << bin / 64 << 1);
    return tops == 0 ? BINS_MOST : bit_lowest(tops) * 64 + bit_lowest(segment->bin_map[bit_lowest(tops)]);
}

/* The shortest block of a bin that fits; SIZE_MAX: none. Looks at all of them. */
static size_t best_of_bin(const struct segment *segment, unsigned bin, const struct request *request)
{
    size_t best = SIZE_MAX;
    size_t best_words = SIZE_MAX;
    for (size_t link = segment->heads[bin]; link != 0; link = link_next(segment, link - 1)) {
        size_t words = block_words(segment, link - 1);
        if (words < best_words && segment_fits(segment, link - 1, request)) {
            best = link - 1;
            best_words = words;
        }
    }
    return best;
}

static size_t best_of_bins(const struct segment *segment, unsigned from, unsigned to, const struct request *request)
{
    size_t best = SIZE_MAX;
    for (unsigned bin = bin_from(segment, from); bin < to && best == SIZE_MAX; bin = bin_from(segment, bin + 1)) {
        best = best_of_bin(segment, bin, request);
    }
    return best;
}

static size_t find_in_bins(const struct segment *segment, const struct request *request)
{
    /* The most that it takes to have it aligned. */
    size_t most = request->words + (request->align_bytes >> WORD_SHIFT) - 1;
    unsigned least_bin = bin_of(request->words);
    if (segment->arena->fit == ALLOT_FIT_BEST && request->words >= BINS_EXACT) {
        return best_of_bins(segment, least_bin, BINS_MOST, request);
    }
    size_t head = segment->heads[least_bin];
    if (head != 0 && segment_fits(segment, head - 1, request)) {
        return head - 1;
    }
    unsigned sure = bin_that_fits(most);
    unsigned bin = bin_from(segment, sure);
    if (bin < BINS_MOST) {
        return segment->heads[bin] - 1;
    }
    /* Nothing is left but, perhaps, in bins of which some blocks fit. */
    return best_of_bins(segment, least_bin, sure, request);
}

/* ---- first fit ----------------------------------------------------------------------------------------------- */

static size_t free_words_at(const struct segment *segment, size_t word)
{
    return (load_relaxed(&segment->state[word]) & STATE_KIND) == STATE_FREE ? block_words(segment, word) : 0;
}

/* Whether one of eight words begins a FREE block. Arenas that look for the first fit have no caches, so nobody changes
 * states meanwhile. */
static bool any_free_of_eight(const struct segment *segment, size_t word)
{
    uint64_t states;
    memcpy(&states, (const void *)&segment->state[word], sizeof states);
    return (states & 0x8080808080808080u & ~(states << 1)) != 0;
}

static size_t most_of_group(const struct segment *segment, size_t group)
{
    size_t most = 0;
    size_t begin = group << GROUP_SHIFT;
    size_t end = size_min(begin + 64, segment->words);
    for (size_t eight = begin; eight < end; eight += 8) {
        for (size_t word = eight; word < eight + 8 && any_free_of_eight(segment, eight); word++) {
            most = word < end ? size_max(most, free_words_at(segment, word)) : most;
        }
    }
    return most;
}

static size_t most_count(const struct segment *segment, unsigned level)
{
    size_t groups = (segment->room + 63) >> GROUP_SHIFT;
    unsigned shift = level * MOST_SHIFT;
    return (groups + (((size_t)1 << shift) - 1)) >> shift;
}

static void most_set(struct segment *segment, size_t at, size_t most)
{
    segment->most[0][at] = most;
    for (unsigned i = 1; i < MOST_LEVELS && segment->most[i] != NULL; i++) {
        size_t first = at >> MOST_SHIFT << MOST_SHIFT;
        size_t end = size_min(first + (1 << MOST_SHIFT), most_count(segment, i - 1));
        most = 0;
        for (size_t below = first; below < end; below++) {
            most = size_max(most, segment->most[i - 1][below]);
        }
        at >>= MOST_SHIFT;
        if (segment->most[i][at] == most) {
            return;
        }
        segment->most[i][at] = most;
    }
}

/* The first group from one on in which a block of so many words begins; SIZE_MAX: none. */
static size_t group_with(const struct segment *segment, size_t group, size_t words)
{
    unsigned i = 0;
    for (;;) { /* upwards, to the first level on which there is one to the right */
        size_t end = size_min(round_up(group + 1, 1 << MOST_SHIFT), most_count(segment, i));
        while (group < end && segment->most[i][group] < words) {
            group++;
        }
        if (group < end) {
            break;
        }
        if (++i == MOST_LEVELS || segment->most[i] == NULL || end == most_count(segment, i - 1)) {
            return SIZE_MAX;
        }
        group = end >> MOST_SHIFT;
    }
    for (; i > 0; i--) {
        group <<= MOST_SHIFT;
        while (segment->most[i - 1][group] < words) {
            group++;
        }
    }
    return group;
}

static size_t find_first(const struct segment *segment, const struct request *request)
{
    size_t group = group_with(segment, 0, request->words);
    for (; group != SIZE_MAX; group = group_with(segment, group + 1, request->words)) {
        size_t begin = group << GROUP_SHIFT;
        size_t end = size_min(begin + 64, segment->words);
        for (size_t word = begin; word < end; word++) {
            if (word % 8 == 0 && !any_free_of_eight(segment, word)) {
                word += 7;
            } else if (free_words_at(segment, word) >= request->words && segment_fits(segment, word, request)) {
                return word;
            }
        }
        if (group + 1 >= most_count(segment, 0)) {
            break;
        }
    }
    return SIZE_MAX;
}

/* ---- either -------------------------------------------------------------------------------------------------- */

void fit_add(struct segment *segment, size_t word, size_t words)
{
    if (segment->arena->fit != ALLOT_FIT_FIRST) {
        bin_add(segment, word, words);
    } else if (segment->most[0][word >> GROUP_SHIFT] < words) {
        most_set(segment, word >> GROUP_SHIFT, words);
    }
}

/* Its state still says FREE. */
void fit_remove(struct segment *segment, size_t word, size_t words)
{
    size_t group = word >> GROUP_SHIFT;
    if (segment->arena->fit != ALLOT_FIT_FIRST) {
        bin_remove(segment, word, words);
    } else if (segment->most[0][group] == words) {
        uint8_t state = load_relaxed(&segment->state[word]);
        store_relaxed(&segment->state[word], 0);
        most_set(segment, group, most_of_group(segment, group));
        store_relaxed(&segment->state[word], state);
    }
}

size_t fit_find(struct segment *segment, const struct request *request)
{
    if (request->words > segment->free_words) {
        return SIZE_MAX;
    }
    return segment->arena->fit == ALLOT_FIT_FIRST ? find_first(segment, request) : find_in_bins(segment, request);
}

/* ---- check --------------------------------------------------------------------------------------------------- */

static bool check_bins(const struct segment *segment, size_t n_free, size_t free_words)
{
    for (unsigned bin = bin_from(segment, 0); bin < BINS_MOST; bin = bin_from(segment, bin + 1)) {
        size_t prev = 0;
        for (size_t link = segment->heads[bin]; link != 0; link = link_next(segment, link - 1)) {
            size_t words = link - 1 < segment->words ? free_words_at(segment, link - 1) : 0;
            if (words == 0 || bin_of(words) != bin || link_prev(segment, link - 1) != prev || n_free == 0) {
                return false;
            }
            prev = link;
            n_free--;
            free_words -= words;
        }
    }
    return n_free == 0 && free_words == 0;
}

static bool check_most(const struct segment *segment)
{
    for (size_t group = 0; group << GROUP_SHIFT < segment->words; group++) {
        size_t most = most_of_group(segment, group);
        if (segment->most[0][group] != most) {
            return false;
        }
        for (unsigned i = 1; i < MOST_LEVELS && segment->most[i] != NULL; i++) {
            if (segment->most[i][group >> (i * MOST_SHIFT)] < most) {
                return false;
            }
        }
    }
    return true;
}

bool fit_check(const struct segment *segment, size_t n_free, size_t free_words)
{
    return segment->arena->fit == ALLOT_FIT_FIRST ? check_most(segment) : check_bins(segment, n_free, free_words);
}
