/*
 * Files are never filled as a whole: a page is stamped when a layout first needs it, and stays stamped, since a stamp
 * depends on the place alone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <string.h>

#include "base/base.h"
#include "memory/memory.h"

#define KEPT_STAMPED 4096           /* pages; with more, all are given back before the next layout */
#define STAMP_SLOTS 262144          /* several times what a layout's comparison needs, and KEPT_STAMPED */
#define STAMP_BATCH 16              /* pages written at once */

static u64 *stamped;                /* open addressing; 0 is empty */
static u64 n_stamped;
static u64 *stamp_buffer;

int vv_stamps_init(void)
{
    stamped = vv_room(STAMP_SLOTS * sizeof(u64));
    stamp_buffer = vv_room(STAMP_BATCH * vv_page_size);
    return stamped && stamp_buffer ? 0 : -1;
}

/* stamp_name() in vfio_verify/values/words.py reads it. */
u64 vv_stamp(u64 memory, u64 file_offset)
{
    return (memory == VV_MEM_RAM ? memory : vv_slot_of(memory) + 1) << 60 | (file_offset & (VV_MEMFD_BYTES - 1));
}

static bool stamped_before(u64 key)
{
    u64 slot = (key * 0x9e3779b97f4a7c15ull) >> 40;

    for (;; slot++) {
        slot %= STAMP_SLOTS;
        if (stamped[slot] == key) {
            return true;
        }
        if (!stamped[slot]) {
            stamped[slot] = key;
            n_stamped++;
            return false;
        }
    }
}

bool vv_room_for_stamps(u64 pages)
{
    return n_stamped + pages <= STAMP_SLOTS * 3 / 4;
}

void vv_forget_stamps(void)
{
    u64 slot;

    for (slot = 0; slot < VV_MEMFDS; slot++) {
        (void)fallocate(vv_memfd[slot], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)VV_MEMFD_BYTES);
    }
    /* Private and anonymous: given back, it reads as zeros. A new process would copy each page to clear it. */
    if (madvise(stamped, STAMP_SLOTS * sizeof(u64), MADV_DONTNEED) < 0) {
        memset(stamped, 0, STAMP_SLOTS * sizeof(u64));
    }
    n_stamped = 0;
}

void vv_trim_stamps(void)
{
    if (n_stamped > KEPT_STAMPED) {
        vv_forget_stamps();
    }
}

static int write_stamps(u64 memory, u64 file_offset, u64 n_pages)
{
    const u64 bytes = n_pages * vv_page_size, first = vv_stamp(memory, file_offset);
    u64 i;

    for (i = 0; i < bytes / sizeof(u64); i++) {
        stamp_buffer[i] = first + i * sizeof(u64);
    }
    return pwrite(vv_memory_fd(memory), stamp_buffer, bytes, (off_t)file_offset) == (ssize_t)bytes ? 0 : -1;
}

/* Stamps the pages that are not stamped yet. Call it for all pages that a layout compares before
 * any of them is looked at: it may give back every page that was stamped before. */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages)
{
    u64 done, run = 0;

    for (done = 0; done < n_pages; done++) {
        u64 at = file_offset + done * vv_page_size;
        bool known = stamped_before(vv_stamp(memory, at) | 1);

        if (!known) {
            run++;
        }
        if (run && (known || run == STAMP_BATCH || done + 1 == n_pages)) {
            u64 end = known ? done : done + 1;
            if (write_stamps(memory, file_offset + (end - run) * vv_page_size, run) < 0) {
                return -1;
            }
            run = 0;
        }
    }
    return 0;
}
