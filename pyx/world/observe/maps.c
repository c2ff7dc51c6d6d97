/*
 * What the kernel says of the address space, and what can be read there.
 *
 * Mappings are asked for one by one with PROCMAP_QUERY (Linux 6.11), or read from the text of
 * /proc/self/maps. Neither allocates. The kernel merges neighbouring overlays with adjacent file
 * offsets, so runs are compared and not VMAs.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

/* include/uapi/linux/fs.h has these since Linux 6.11; older headers do not. */
struct procmap_query_request {
    uint64_t size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY_REQUEST _IOWR('f', 17, struct procmap_query_request)
#define QUERY_COVERING_OR_NEXT 0x10

#define TEXT_BYTES (4u << 20)
#define SNAPSHOT_MAX 4096
#define WHOLE_SEGMENT_PAGES 64          /* larger segments are compared on a sample */
#define CHANGED_BIT 4                   /* of a word that the device changed; stamps leave the low three bits free */

static int maps_fd = -1, statm_fd = -1;
static bool parsing, text_read;
static char *text;
static size_t text_bytes;
static struct vv_vma *snapshot;
static u64 n_snapshot;

sigjmp_buf vv_probe_escape;
volatile sig_atomic_t vv_probing;

int vv_observe_init(void)
{
    /* A descriptor opened before fork() shows the parent. */
    if (maps_fd >= 0) {
        close(maps_fd);
        close(statm_fd);
    }
    maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (!text) {
        text = vv_room(TEXT_BYTES);
        snapshot = vv_room(SNAPSHOT_MAX * sizeof(*snapshot));
    }
    return maps_fd < 0 || statm_fd < 0 || !text || !snapshot ? -1 : 0;
}

bool vv_observe_parses(void)
{
    return parsing;
}

void vv_observe_refresh(bool parse)
{
    parsing = parsing || parse;
    text_read = false;
}

/* ---- mappings ------------------------------------------------------------------------------------- */

static int query(u64 address, struct vv_vma *vma)
{
    struct procmap_query_request q = {
        .size = sizeof(q), .query_flags = QUERY_COVERING_OR_NEXT, .query_addr = address,
    };

    if (ioctl(maps_fd, PROCMAP_QUERY_REQUEST, &q) < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    vma->start = q.vma_start;
    vma->end = q.vma_end;
    vma->flags = q.vma_flags & (VV_READ | VV_WRITE | VV_EXEC | VV_SHARED);
    vma->offset = q.vma_offset;
    vv_memory_of_inode(makedev(q.dev_major, q.dev_minor), q.inode, &vma->memory);
    return 1;
}

static void read_text(void)
{
    ssize_t got;

    text_bytes = 0;
    lseek(maps_fd, 0, SEEK_SET);
    while (text_bytes < TEXT_BYTES - 1 && (got = read(maps_fd, text + text_bytes, TEXT_BYTES - 1 - text_bytes)) > 0) {
        text_bytes += (size_t)got;
    }
    text[text_bytes] = 0;
    text_read = true;
}

/* One line: 7f1c-7f1d rw-s 0000 00:01 4711   /memfd:vfio-device (deleted) */
static char *parse_line(char *at, struct vv_vma *vma)
{
    unsigned long major, minor;
    char *end = strchr(at, '\n');

    vma->start = strtoull(at, &at, 16);
    vma->end = strtoull(at + 1, &at, 16);
    vma->flags = (u64)((at[1] == 'r' ? VV_READ : 0) | (at[2] == 'w' ? VV_WRITE : 0) | (at[3] == 'x' ? VV_EXEC : 0)
                       | (at[4] == 's' ? VV_SHARED : 0));
    vma->offset = strtoull(at + 6, &at, 16);
    major = strtoul(at + 1, &at, 16);
    minor = strtoul(at + 1, &at, 16);
    vv_memory_of_inode(makedev(major, minor), strtoull(at + 1, &at, 10), &vma->memory);
    return end ? end + 1 : NULL;
}

static bool find_in_text(u64 address, struct vv_vma *vma)
{
    char *at = text;

    if (!text_read) {
        read_text();
    }
    while (at && *at) {
        at = parse_line(at, vma);
        if (vma->end > address) {
            return true;
        }
    }
    return false;
}

bool vv_vma_at_or_after(u64 address, struct vv_vma *vma)
{
    if (!parsing) {
        int found = query(address, vma);
        if (found >= 0) {
            return found;
        }
        parsing = true;         /* a kernel before 6.11 */
    }
    return find_in_text(address, vma);
}

static bool continues(const struct vv_vma *before, const struct vv_vma *vma)
{
    return before->end == vma->start && before->flags == vma->flags && before->memory == vma->memory
           && (vma->memory >= VV_MEM_OTHER || before->offset + (before->end - before->start) == vma->offset);
}

u64 vv_observe_range(u64 start, u64 end, struct vv_vma *out, u64 max)
{
    struct vv_vma vma;
    u64 n = 0;

    while (start < end && vv_vma_at_or_after(start, &vma) && vma.start < end) {
        if (vma.start < start) {
            vma.offset += start - vma.start;
            vma.start = start;
        }
        if (vma.end > end) {
            vma.end = end;
        }
        start = vma.end;
        if (vma.memory >= VV_MEM_OTHER) {
            vma.offset = 0;
        }
        if (n && continues(&out[n - 1], &vma)) {
            out[n - 1].end = vma.end;
        } else if (n < max) {
            out[n++] = vma;
        } else {
            break;
        }
    }
    return n;
}

u64 vv_process_pages(void)
{
    char line[64];
    ssize_t got = pread(statm_fd, line, sizeof(line) - 1, 0);

    if (got <= 0) {
        return 0;
    }
    line[got] = 0;
    return strtoull(line, NULL, 10);
}

int vv_lowest_free_fd(void)
{
    int fd = fcntl(statm_fd, F_DUPFD, 0);

    if (fd >= 0) {
        close(fd);
        return fd;
    }
    /* The subject may have lowered the limit. */
    for (fd = 0; fcntl(fd, F_GETFD) >= 0; fd++) {
    }
    return fd;
}

/* Which files the world looks through: the subject may have put others in their place. */
void vv_observe_files(dev_t *maps_device, ino_t *maps_inode, dev_t *statm_device, ino_t *statm_inode)
{
    struct stat maps = {0}, statm = {0};

    (void)!fstat(maps_fd, &maps);
    (void)!fstat(statm_fd, &statm);
    *maps_device = maps.st_dev;
    *maps_inode = maps.st_ino;
    *statm_device = statm.st_dev;
    *statm_inode = statm.st_ino;
}

/* ---- the whole process -------------------------------------------------------------------------------- */

/* The stack grows by itself. The heap may, in builds traced for coverage. */
static bool grows_by_itself(const struct vv_vma *vma)
{
    const u64 here = (u64)&vma, heap_end = (u64)sbrk(0);

    return (vma->start <= here && here < vma->end) || (vma->end == heap_end);
}

void vv_snapshot_take(void)
{
    struct vv_vma vma;
    u64 at = 0;

    n_snapshot = 0;
    vv_observe_refresh(false);
    while (n_snapshot < SNAPSHOT_MAX && vv_vma_at_or_after(at, &vma) && vma.end > at) {
        at = vma.end;
        if (vv_kernel_fills(vma.start, &at)) {
            continue;
        }
        if (!vv_memory_in_arena(vma.start) && !grows_by_itself(&vma)) {
            snapshot[n_snapshot++] = vma;
        }
    }
}

/* New mappings do not count, even where the kernel merged one with an old one: what was there must still be. */
u64 vv_snapshot_changes(void)
{
    u64 i, changes = 0;

    vv_observe_refresh(false);
    for (i = 0; i < n_snapshot; i++) {
        const struct vv_vma *was = &snapshot[i];
        struct vv_vma is;

        if (!vv_vma_at_or_after(was->start, &is) || is.start > was->start || is.end < was->end
            || is.flags != was->flags || is.memory != was->memory
            || (was->memory != VV_MEM_ANONYMOUS && is.offset + (was->start - is.start) != was->offset)) {
            changes++;
        }
    }
    return changes;
}

/* ---- contents ------------------------------------------------------------------------------------------ */

static void differ(struct vv_contents *contents, u64 kind, u64 segment, u64 offset, u64 expected, u64 seen)
{
    if (contents->n < contents->max) {
        contents->out[contents->n] = (struct vv_difference){kind, segment, offset, expected, seen};
    }
    contents->n++;
}

/* Words that the device has changed, in a session. A second change of a word restores it. */
static struct { u64 memory, file_offset; } changed[VV_MAX_CHANGES];
static u64 n_changed;

static u64 word_now(u64 memory, u64 file_offset)
{
    u64 i;

    for (i = 0; i < n_changed; i++) {
        if (changed[i].memory == memory && changed[i].file_offset == file_offset) {
            return vv_stamp(memory, file_offset) | CHANGED_BIT;
        }
    }
    return vv_stamp(memory, file_offset);
}

static bool changed_within(u64 memory, u64 from, u64 to)
{
    u64 i;

    for (i = 0; i < n_changed; i++) {
        if (changed[i].memory == memory && changed[i].file_offset >= from && changed[i].file_offset < to) {
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
    u64 i;

    if (vv_stamp_pages(memory, own_page_down(file_offset), 1) < 0) {
        return false;
    }
    for (i = 0; i < n_changed; i++) {
        if (changed[i].memory == memory && changed[i].file_offset == file_offset) {
            changed[i] = changed[--n_changed];
            return put_word(memory, file_offset, vv_stamp(memory, file_offset));
        }
    }
    if (n_changed == VV_MAX_CHANGES) {
        return false;
    }
    changed[n_changed].memory = memory;
    changed[n_changed++].file_offset = file_offset;
    return put_word(memory, file_offset, word_now(memory, file_offset));
}

void vv_restore_words(void)
{
    for (; n_changed; n_changed--) {
        const u64 memory = changed[n_changed - 1].memory, file_offset = changed[n_changed - 1].file_offset;

        (void)!put_word(memory, file_offset, vv_stamp(memory, file_offset));
    }
}

/* Bytes [from, to) of a segment, which lie within one page of the device. Reports the first word that differs. */
static void compare_piece(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 from, u64 to,
                          u64 memory, u64 file_offset)
{
    const u64 first = vv_stamp(memory, file_offset + from);
    const u64 words = (to - from) / sizeof(u64);
    u64 i, bad = changed_within(memory, file_offset + from, file_offset + to), expected, seen;

    for (i = 0; i < words; i++) {
        bad |= ((const volatile u64 *)(at + from))[i] ^ (first + i * sizeof(u64));
    }
    for (i = 0; bad && i < words; i++) {
        seen = ((const volatile u64 *)(at + from))[i];
        expected = word_now(memory, file_offset + from + i * sizeof(u64));
        if (seen != expected) {
            differ(contents, VV_UNEQUAL, segment, from + i * sizeof(u64), expected, seen);
            return;
        }
    }
    if ((to - from) % sizeof(u64)) {        /* the last bytes of a misaligned length */
        const u64 tail = (to - from) % sizeof(u64);
        expected = word_now(memory, file_offset + from + words * sizeof(u64));
        seen = 0;
        memcpy(&seen, at + from + words * sizeof(u64), tail);
        expected &= (1ull << (tail * 8)) - 1;
        if (seen != expected) {
            differ(contents, VV_UNEQUAL, segment, from + words * sizeof(u64), expected, seen);
        }
    }
}

/* A word changed through the device, then through the guest's mapping, must show. */
static void probe_alias(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 offset, u64 memory, u64 file_offset)
{
    const u64 expected = word_now(memory, file_offset + offset);
    const struct vv_segment *s = &vv_world.layout.segments[segment];
    const struct vv_block *block = &vv_world.layout.blocks[s->block];
    volatile u64 *guest = (volatile u64 *)(vv_world.block_host[s->block] + s->offset + offset);
    const volatile u64 *word = (const volatile u64 *)(at + offset);
    const bool writable = block->area == VV_NONE
                          || (vv_world.layout.regions[vv_world.layout.areas[block->area].region].flags & 2);
    u64 mark = expected | 5, seen;

    if (put_word(memory, file_offset + offset, mark)) {
        seen = *word;
        if (seen != mark) {
            differ(contents, VV_DEVICE_UNSEEN, segment, offset, mark, seen);
        }
    }
    if (writable) {
        mark = expected | 2;
        *guest = mark;
        seen = *word;
        if (seen != mark) {
            differ(contents, VV_GUEST_UNSEEN, segment, offset, mark, seen);
        }
        *guest = expected;
    }
    if (!writable || contents->n) {         /* the guest's mapping cannot, or did not, put the stamp back */
        (void)!put_word(memory, file_offset + offset, expected);
    }
}

/* Which page of a segment is looked at next: all of an ordinary one; the ends and a spread of a large one. */
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

typedef void visit_fn(struct vv_contents *, const uint8_t *at, u64 segment, u64 from, u64 to, u64 memory, u64 file_offset);

static void visit_stamp(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 from, u64 to, u64 memory,
                        u64 file_offset)
{
    (void)contents, (void)at, (void)segment;
    vv_stamp_pages(memory, own_page_down(file_offset + from),
                   (own_page_up(file_offset + to) - own_page_down(file_offset + from)) / vv_page_size);
}

static u64 pages_to_visit(u64 pages)
{
    u64 page, n = 0;

    for (page = 0; page < pages; page = next_page(page, pages, sample_step(pages))) {
        n++;
    }
    return n;
}

/* Of how many segments one is looked at, so that the pages to compare lie all over the mapping. */
static u64 segments_for_one(void)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 i, wanted = 0;

    for (i = 0; i < layout->n_segments; i++) {
        const u64 pages = own_page_up(layout->segments[i].length) / vv_page_size;

        wanted += pages <= WHOLE_SEGMENT_PAGES ? pages : pages_to_visit(pages);
    }
    return wanted ? (wanted - 1) / VV_COMPARED_PAGES + 1 : 1;
}

/* Visits the pages of every segment that are to be compared, as byte ranges [from, to) of the segment. Where there are
 * more than VV_COMPARED_PAGES, those of every k-th segment, and of the last one. */
static void visit_segments(struct vv_contents *contents, u64 address, visit_fn *visit)
{
    const struct vv_layout *layout = &vv_world.layout;
    const u64 stride = segments_for_one();
    u64 done = 0, i, memory = 0;
    u64 budget = VV_COMPARED_PAGES;

    contents->pages_compared = contents->pages_total = 0;
    for (i = 0; i < layout->n_segments; i++) {
        const struct vv_segment *s = &layout->segments[i];
        const u64 file_offset = vv_segment_file_offset(i, &memory);
        const u64 pages = own_page_up(s->length) / vv_page_size;
        const bool last = i + 1 == layout->n_segments;
        u64 page;

        contents->pages_total += pages;
        if (file_offset != VV_NONE && (i % stride == 0 || last)) {
            for (page = 0; page < pages && (budget || last); page = next_page(page, pages, sample_step(pages))) {
                u64 from = page * vv_page_size, to = from + vv_page_size;
                visit(contents, (const uint8_t *)address + done, i, from, to < s->length ? to : s->length, memory,
                      file_offset);
                contents->pages_compared++;
                budget -= budget > 0;
            }
        }
        done += s->length;
    }
}

u64 vv_stamp_layout(void)
{
    struct vv_contents counted = {0};

    visit_segments(&counted, 0, visit_stamp);
    return counted.pages_compared;
}

static void visit_compare(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 from, u64 to, u64 memory,
                          u64 file_offset)
{
    if (!sigsetjmp(vv_probe_escape, 0)) {
        vv_probing = 1;
        compare_piece(contents, at, segment, from, to, memory, file_offset);
    } else {
        differ(contents, VV_UNREADABLE, segment, from, vv_stamp(memory, file_offset + from), 0);
    }
    vv_probing = 0;
}

static void visit_aliases(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 from, u64 to, u64 memory,
                          u64 file_offset)
{
    /* The first word of the first and of the last page: the VMAs tell of those in between. */
    const u64 length = vv_world.layout.segments[segment].length;

    if ((from && to < length) || to - from < sizeof(u64)) {
        return;
    }
    if (!sigsetjmp(vv_probe_escape, 0)) {
        vv_probing = 1;
        probe_alias(contents, at, segment, from, memory, file_offset);
    } else {
        differ(contents, VV_UNREADABLE, segment, from, vv_stamp(memory, file_offset + from), 0);
    }
    vv_probing = 0;
}

static void visit_gone(struct vv_contents *contents, const uint8_t *at, u64 segment, u64 from, u64 to, u64 memory,
                       u64 file_offset)
{
    (void)to;
    if (!sigsetjmp(vv_probe_escape, 0)) {
        volatile uint8_t byte;

        vv_probing = 1;
        byte = *(const volatile uint8_t *)(at + from);
        differ(contents, VV_STILL_READABLE, segment, from, vv_stamp(memory, file_offset + from), byte);
    }
    vv_probing = 0;
}

/* The guest reads nothing of it any more, and the same memory cannot be read through the mapping either. */
void vv_compare_gone(u64 address, struct vv_contents *contents)
{
    visit_segments(contents, address, visit_gone);
}

/* Only for layouts whose segments are page aligned in their blocks: what cannot be overlaid is not compared. */
void vv_compare_contents(u64 address, bool probe_aliases, struct vv_contents *contents)
{
    visit_segments(contents, address, visit_compare);
    if (probe_aliases && !contents->n) {
        visit_segments(contents, address, visit_aliases);
    }
}
