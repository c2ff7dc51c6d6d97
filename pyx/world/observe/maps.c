/*
 * Mappings are asked for one by one with PROCMAP_QUERY (Linux 6.11), or read from the text of /proc/self/maps. Neither
 * allocates. The kernel merges neighbouring overlays with adjacent file offsets, so runs are compared and not VMAs.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"

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

int vv_proc_fd[VV_PROCS] = {-1, -1};
static bool parsing, text_read;
static char *text;
static size_t text_bytes;
static struct vv_vma *snapshot;
static u64 n_snapshot;
static struct vv_range left_out;

int vv_observe_init(void)
{
    /* A descriptor opened before fork() shows the parent. */
    if (vv_proc_fd[VV_PROC_MAPS] >= 0) {
        close(vv_proc_fd[VV_PROC_MAPS]);
        close(vv_proc_fd[VV_PROC_STATM]);
    }
    vv_proc_fd[VV_PROC_MAPS] = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    vv_proc_fd[VV_PROC_STATM] = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (!text) {
        text = vv_room(TEXT_BYTES);
        snapshot = vv_room(SNAPSHOT_MAX * sizeof(*snapshot));
    }
    return vv_proc_fd[VV_PROC_MAPS] < 0 || vv_proc_fd[VV_PROC_STATM] < 0 || !text || !snapshot ? -1 : 0;
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

    if (ioctl(vv_proc_fd[VV_PROC_MAPS], PROCMAP_QUERY_REQUEST, &q) < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    vma->start = q.vma_start;
    vma->end = q.vma_end;
    vma->flags = q.vma_flags & (VV_READ | VV_WRITE | VV_EXEC | VV_SHARED);
    vma->offset = q.vma_offset;
    vma->memory = vv_memory_of_inode(makedev(q.dev_major, q.dev_minor), q.inode);
    return 1;
}

static void read_text(void)
{
    const int maps = vv_proc_fd[VV_PROC_MAPS];
    ssize_t got;

    text_bytes = 0;
    lseek(maps, 0, SEEK_SET);
    while (text_bytes < TEXT_BYTES - 1 && (got = read(maps, text + text_bytes, TEXT_BYTES - 1 - text_bytes)) > 0) {
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
    vma->memory = vv_memory_of_inode(makedev(major, minor), strtoull(at + 1, &at, 10));
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
    ssize_t got = pread(vv_proc_fd[VV_PROC_STATM], line, sizeof(line) - 1, 0);

    if (got <= 0) {
        return 0;
    }
    line[got] = 0;
    return strtoull(line, NULL, 10);
}

/* ---- the whole process -------------------------------------------------------------------------------- */

/* The stack grows by itself. The heap may, in builds traced for coverage. */
static bool grows_by_itself(const struct vv_vma *vma)
{
    const u64 here = (u64)&vma, heap_end = (u64)sbrk(0);

    return (vma->start <= here && here < vma->end) || (vma->end == heap_end);
}

void vv_snapshot_leave_out(struct vv_range range)
{
    left_out = range;
}

void vv_snapshot_take(void)
{
    struct vv_vma vma;
    u64 at = 0;

    n_snapshot = 0;
    vv_observe_refresh(false);
    while (n_snapshot < SNAPSHOT_MAX && vv_vma_at_or_after(at, &vma) && vma.end > at) {
        at = vma.end;
        if (vma.start >= left_out.start && vma.start < left_out.end) {
            at = left_out.end;
        } else if (!vv_memory_in_arena(vma.start) && !grows_by_itself(&vma)) {
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
