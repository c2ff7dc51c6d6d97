/*
 * Each word of the memory of devices and guests tells its place (memory/stamps.c). The pages of a mapping are read, and
 * each first word that is another than it should be is told.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "memory/memory.h"
#include "observe/observe.h"

#define WHOLE_SEGMENT_PAGES 64          /* larger segments are compared on a sample */
#define MAX_CHANGES 64
#define CHANGED_BIT 4                   /* of a word that the device changed; stamps leave the low three bits free */

sigjmp_buf vv_probe_escape;
volatile sig_atomic_t vv_probing;

/* A piece of a segment, within one page of the device. */
struct piece {
    const struct vv_segment *of;
    u64 segment, offset, bytes;         /* the segment's position, and where in it */
    const uint8_t *at;                  /* in the mapping */
    u64 memory, file_offset;
};

static void differ(struct vv_contents *contents, u64 kind, const struct piece *piece, u64 offset, u64 expected,
                   u64 seen)
{
    if (contents->n < contents->max) {
        contents->out[contents->n] =
            (struct vv_difference){kind, piece->segment, piece->offset + offset, expected, seen};
    }
    contents->n++;
}

/* ---- words that the device changes ------------------------------------------------------------------------ */

/* Words that the device has changed, in a session. A second change of a word restores it. */
static struct { u64 memory, file_offset; } changed[MAX_CHANGES];

static u64 n_changed;

/* The position of a changed word, n_changed if it is as stamped. */
static u64 find_change(u64 memory, u64 file_offset)
{
    u64 i = 0;

    while (i < n_changed && (changed[i].memory != memory || changed[i].file_offset != file_offset)) {
        i++;
    }
    return i;
}

static u64 word_now(u64 memory, u64 file_offset)
{
    return vv_stamp(memory, file_offset) | (find_change(memory, file_offset) < n_changed ? CHANGED_BIT : 0);
}

static bool changed_within(const struct piece *piece)
{
    u64 i;

    for (i = 0; i < n_changed; i++) {
        if (changed[i].memory == piece->memory && changed[i].file_offset - piece->file_offset < piece->bytes) {
            return true;
        }
    }
    return false;
}

static bool put_word(u64 memory, u64 file_offset, u64 word)
{
    return pwrite(vv_memory_fd(memory), &word, sizeof(word), (off_t)file_offset) == sizeof(word);
}

bool vv_change_word(u64 memory, u64 file_offset)
{
    const u64 i = find_change(memory, file_offset);

    if (vv_stamp_pages(memory, own_page_down(file_offset), 1) < 0 || i == MAX_CHANGES) {
        return false;
    }
    if (i < n_changed) {
        changed[i] = changed[--n_changed];
    } else {
        changed[i].memory = memory;
        changed[n_changed++].file_offset = file_offset;
    }
    return put_word(memory, file_offset, word_now(memory, file_offset));
}

void vv_restore_words(void)
{
    for (; n_changed; n_changed--) {
        const u64 memory = changed[n_changed - 1].memory, file_offset = changed[n_changed - 1].file_offset;

        (void)!put_word(memory, file_offset, vv_stamp(memory, file_offset));
    }
}

/* ---- one piece -------------------------------------------------------------------------------------------- */

static void stamp(struct vv_contents *contents, const struct piece *piece)
{
    const u64 first = own_page_down(piece->file_offset);

    (void)contents;
    vv_stamp_pages(piece->memory, first, (own_page_up(piece->file_offset + piece->bytes) - first) / vv_page_size);
}

static void compare(struct vv_contents *contents, const struct piece *piece)
{
    const volatile u64 *const word = (const volatile u64 *)piece->at;
    const u64 first = vv_stamp(piece->memory, piece->file_offset);
    const u64 words = piece->bytes / sizeof(u64), tail = piece->bytes % sizeof(u64);
    u64 i, bad = changed_within(piece), expected, seen;

    for (i = 0; i < words; i++) {
        bad |= word[i] ^ (first + i * sizeof(u64));
    }
    for (i = 0; bad && i < words; i++) {
        seen = word[i];
        expected = word_now(piece->memory, piece->file_offset + i * sizeof(u64));
        if (seen != expected) {
            differ(contents, VV_UNEQUAL, piece, i * sizeof(u64), expected, seen);
            return;
        }
    }
    if (tail) {                         /* the last bytes of a misaligned length */
        expected = word_now(piece->memory, piece->file_offset + words * sizeof(u64)) & ((1ull << (tail * 8)) - 1);
        seen = 0;
        memcpy(&seen, piece->at + words * sizeof(u64), tail);
        if (seen != expected) {
            differ(contents, VV_UNEQUAL, piece, words * sizeof(u64), expected, seen);
        }
    }
}

/* A word changed through the device, then through the guest's mapping, must show. */
static void probe_alias(struct vv_contents *contents, const struct piece *piece)
{
    const u64 expected = word_now(piece->memory, piece->file_offset);
    volatile u64 *guest = (volatile u64 *)(vv_world.block_host[piece->of->block] + piece->of->offset + piece->offset);
    const volatile u64 *word = (const volatile u64 *)piece->at;
    const bool writable = vv_block_is_writable(piece->of->block);
    u64 mark = expected | 5, seen;

    if (put_word(piece->memory, piece->file_offset, mark)) {
        seen = *word;
        if (seen != mark) {
            differ(contents, VV_DEVICE_UNSEEN, piece, 0, mark, seen);
        }
    }
    if (writable) {
        mark = expected | 2;
        *guest = mark;
        seen = *word;
        if (seen != mark) {
            differ(contents, VV_GUEST_UNSEEN, piece, 0, mark, seen);
        }
        *guest = expected;
    }
    if (!writable || contents->n) {         /* the guest's mapping cannot, or did not, put the stamp back */
        (void)!put_word(piece->memory, piece->file_offset, expected);
    }
}

static void read_byte(struct vv_contents *contents, const struct piece *piece)
{
    const uint8_t byte = *(const volatile uint8_t *)piece->at;

    differ(contents, VV_STILL_READABLE, piece, 0, vv_stamp(piece->memory, piece->file_offset), byte);
}

typedef void visit_fn(struct vv_contents *, const struct piece *);

/* False: a signal ended the visit. */
static bool readable(visit_fn *visit, struct vv_contents *contents, const struct piece *piece)
{
    if (sigsetjmp(vv_probe_escape, 0)) {
        vv_probing = 0;
        return false;
    }
    vv_probing = 1;
    visit(contents, piece);
    vv_probing = 0;
    return true;
}

static void visit_compare(struct vv_contents *contents, const struct piece *piece)
{
    if (!readable(compare, contents, piece)) {
        differ(contents, VV_UNREADABLE, piece, 0, vv_stamp(piece->memory, piece->file_offset), 0);
    }
}

static void visit_aliases(struct vv_contents *contents, const struct piece *piece)
{
    /* The first word of the first and of the last page: the VMAs tell of those in between. */
    const bool inner = piece->offset && piece->offset + piece->bytes < piece->of->length;

    if (!inner && piece->bytes >= sizeof(u64) && !readable(probe_alias, contents, piece)) {
        differ(contents, VV_UNREADABLE, piece, 0, vv_stamp(piece->memory, piece->file_offset), 0);
    }
}

static void visit_gone(struct vv_contents *contents, const struct piece *piece)
{
    readable(read_byte, contents, piece);
}

/* ---- all pieces -------------------------------------------------------------------------------------------- */

/* The page of a segment that is looked at next: each of an ordinary one; the ends of a large one, and some between. */
static u64 next_page(u64 page, u64 pages, u64 step)
{
    if (pages <= WHOLE_SEGMENT_PAGES || page < 1 || page + 2 >= pages) {
        return page + 1;
    }
    page += step;
    return page < pages - 2 ? page : pages - 2;
}

static u64 sample_step(u64 pages)
{
    return pages <= WHOLE_SEGMENT_PAGES ? 1 : pages / (WHOLE_SEGMENT_PAGES / 4) + 1;
}

static u64 pages_to_visit(u64 pages)
{
    u64 page, n = 0;

    if (pages <= WHOLE_SEGMENT_PAGES) {
        return pages;
    }
    for (page = 0; page < pages; page = next_page(page, pages, sample_step(pages))) {
        n++;
    }
    return n;
}

/* One segment of so many is looked at, so that the pages to compare lie all over the mapping. */
static u64 segment_stride(const struct vv_iovec *iovec)
{
    u64 i, wanted = 0;

    for (i = 0; i < iovec->n; i++) {
        wanted += pages_to_visit(own_page_up(iovec->segments[i].length) / vv_page_size);
    }
    return wanted > VV_COMPARED_PAGES ? (wanted - 1) / VV_SAMPLED_PAGES + 1 : 1;
}

/* Visits the pages of every segment that are to be compared. Where there are more than VV_COMPARED_PAGES, about
 * VV_SAMPLED_PAGES: those of every k-th segment, and of the last one. */
static void visit_all(const struct vv_iovec *iovec, u64 address, struct vv_contents *contents, visit_fn *visit)
{
    const u64 stride = segment_stride(iovec);
    u64 done = 0, i, budget = VV_COMPARED_PAGES, page;

    contents->pages_compared = contents->pages_total = 0;
    for (i = 0; i < iovec->n; i++) {
        const struct vv_segment *s = &iovec->segments[i];
        const u64 pages = own_page_up(s->length) / vv_page_size;
        const bool last = i + 1 == iovec->n;
        struct piece piece = {.of = s, .segment = i};
        const u64 file_offset = vv_segment_file_offset(s, &piece.memory);

        contents->pages_total += pages;
        if (file_offset != VV_NONE && (i % stride == 0 || last)) {
            for (page = 0; page < pages && (budget || last); page = next_page(page, pages, sample_step(pages))) {
                piece.offset = page * vv_page_size;
                piece.bytes = s->length - piece.offset < vv_page_size ? s->length - piece.offset : vv_page_size;
                piece.at = (const uint8_t *)address + done + piece.offset;
                piece.file_offset = file_offset + piece.offset;
                visit(contents, &piece);
                contents->pages_compared++;
                budget -= budget > 0;
            }
        }
        done += s->length;
    }
}

u64 vv_stamp_iovec(const struct vv_iovec *iovec)
{
    struct vv_contents counted = {0};

    visit_all(iovec, 0, &counted, stamp);
    return counted.pages_compared;
}

void vv_compare_gone(const struct vv_iovec *iovec, u64 address, struct vv_contents *contents)
{
    visit_all(iovec, address, contents, visit_gone);
}

void vv_compare_contents(const struct vv_iovec *iovec, u64 address, bool probe_aliases, struct vv_contents *contents)
{
    visit_all(iovec, address, contents, visit_compare);
    if (probe_aliases && !contents->n) {
        visit_all(iovec, address, contents, visit_aliases);
    }
}
