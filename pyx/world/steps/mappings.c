/*
 * The system calls of a subject that map and unmap. What they do is really done, unless it would damage the harness:
 * what lies outside the subject's own reservations is recorded and answered as Linux would, but not done. Nothing here
 * allocates.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "memory/memory.h"
#include "observe/observe.h"
#include "steps/steps.h"

#define SLACK_BYTES (4u << 20)      /* for alignment: what a reservation may be larger than twice the total */
#define FIXED_FLAGS (MAP_FIXED | MAP_FIXED_NOREPLACE)

static char looking;                /* lock: at the text of /proc/self/maps, which is read into one place */

/* ---- mmap ------------------------------------------------------------------------------------------- */

/* What the kernel refuses before it takes away what MAP_FIXED covers; it says so itself. A hint may be anything. */
static bool refused_early(u64 addr, u64 length, int flags, off_t offset)
{
    return !length || (u64)offset % vv_host_page || page_up(length) < length
           || ((flags & FIXED_FLAGS) && (addr % vv_host_page || addr + page_up(length) < addr));
}

static void *fail_mmap(struct vv_event *event, int error)
{
    vv_end(event, (u64)MAP_FAILED, error);
    errno = error;
    return MAP_FAILED;
}

/* Whether a driver that failed late left its hole. */
static bool nothing_at(u64 address)
{
    const int error = errno;
    struct vv_vma vma;
    bool nothing;

    vv_observe_refresh(false);
    nothing = !vv_vma_at_or_after(address, &vma) || vma.start > address;
    errno = error;
    return nothing;
}

/* Where the subject's pages are larger than this machine's, the place is aligned to them: cut out of a larger one. */
static void *mmap_anywhere(size_t bytes, int prot, int flags, int fd, off_t offset)
{
    const size_t spare = vv_host_page - vv_page_size;
    uint8_t *room, *result;
    size_t before;
    int error;

    if (!spare) {
        return vv_raw_mmap(NULL, bytes, prot, flags, fd, offset);
    }
    room = vv_raw_mmap(NULL, bytes + spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return room;
    }
    before = -(uintptr_t)room & (vv_host_page - 1);
    result = vv_raw_mmap(room + before, bytes, prot, flags | MAP_FIXED, fd, offset);
    error = errno;
    if (result == MAP_FAILED) {
        vv_raw_munmap(room, bytes + spare);
        errno = error;
        return result;
    }
    if (before) {
        vv_raw_munmap(room, before);
    }
    if (before < spare) {
        vv_raw_munmap(result + bytes, spare - before);
    }
    return result;
}

/* A mapping whose place is the kernel's choice, and not `hint`. */
static void *mmap_elsewhere(void *hint, size_t length, int prot, int flags, int fd, off_t offset)
{
    void *first = mmap_anywhere(length, prot, flags, fd, offset), *second;
    int error;

    if (first != hint || first == MAP_FAILED) {
        return first;
    }
    second = mmap_anywhere(length, prot, flags, fd, offset);
    error = errno;
    vv_raw_munmap(first, length);
    errno = error;
    return second;
}

/* Maps at the address asked for if that is free, and elsewhere if it is not; with pages as large as the subject's. */
static void *mmap_near(void *hint, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    void *result = MAP_FAILED;
    uint8_t *wanted = (uint8_t *)page_up((u64)hint);

    if (vv_host_page == vv_page_size) {
        return vv_raw_mmap(hint, bytes, prot, flags, fd, offset);
    }
    if (wanted) {
        result = vv_raw_mmap(wanted, bytes, prot, flags | MAP_FIXED_NOREPLACE, fd, offset);
    }
    return result == MAP_FAILED ? mmap_anywhere(bytes, prot, flags, fd, offset) : result;
}

/* What a mapping of this kernel's does with its flags. MAP_FIXED_NOREPLACE alone is then no more than a hint. */
static int flags_by_rules(int flags)
{
    return vv_world.layout.kernel_rules & VV_NO_NOREPLACE ? flags & ~MAP_FIXED_NOREPLACE : flags;
}

void *vv_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    const u64 start = (u64)addr, bytes = page_up(length);
    const u64 rules = vv_world.layout.kernel_rules;
    const int asked = flags;
    struct vv_event *event;
    bool early;
    u64 inside, memory;
    bool was_torn;
    void *result;

    if (!vv_calls.active) {
        return vv_raw_mmap(addr, length, prot, flags, fd, offset);
    }
    flags = flags_by_rules(flags);
    early = refused_early(start, length, flags, offset);
    event = vv_begin(VV_MMAP, start, length, (u64)prot, (u64)asked, (u64)(int64_t)fd, (u64)offset);
    vv_kernel_before_mmap(vv_calls.counts[VV_MMAP]);
    inside = (flags & FIXED_FLAGS) && !early ? vv_owned_bytes(start, bytes) : 0;
    if ((flags & FIXED_FLAGS) && !early) {
        event->flags |= inside == bytes ? VV_OWNED : VV_OUTSIDE;
    }
    if (!(event->flags & VV_FAULTED) && !early && !(flags & MAP_ANONYMOUS) && vv_is_device(fd, &memory)
        && !vv_kernel_refuses(fd) && vv_device_refuses(memory, (u64)offset, bytes, flags)) {
        event->flags |= VV_BY_RULE | VV_TOOK_AWAY;
        event->error = EINVAL;
    }
    if (!event->error && !early && (flags & MAP_LOCKED) && (rules & VV_NO_LOCKS)) {
        event->flags |= VV_BY_RULE;
        event->error = EAGAIN;
    }
    if (event->error) {
        /* A late failure comes from the driver, when the old mapping is already gone. */
        if ((event->flags & VV_TOOK_AWAY) && (flags & MAP_FIXED) && inside) {
            vv_tear(true);
            vv_raw_munmap(addr, inside);
        } else {
            event->flags &= ~(u64)VV_TOOK_AWAY;
        }
        return fail_mmap(event, (int)event->error);
    }

    if (vv_host_page > vv_page_size) {
        if (early) {                /* for this kernel it may be no error */
            return fail_mmap(event, length && page_up(length) < length ? ENOMEM : EINVAL);
        }
        length = bytes;
    }
    /* Filling or locking a sparse region of many GiB would take the machine down. */
    flags &= ~(MAP_POPULATE | MAP_LOCKED);
    was_torn = vv_calls.holed;
    if (vv_calls.scheduler && inside) {
        vv_tear(true);                 /* unless the kernel agrees */
    }
    if ((flags & FIXED_FLAGS) && !early && inside < bytes) {
        result = vv_raw_mmap(addr, length, prot, flags | MAP_FIXED_NOREPLACE, fd, offset);
        if (result == MAP_FAILED && errno == EEXIST && !(flags & MAP_FIXED_NOREPLACE)) {
            event->flags |= VV_REFUSED;
            if (inside) {
                vv_raw_mmap(addr, inside, prot, flags, fd, offset);
            }
            vv_end(event, start, 0);
            return addr;
        }
    } else if (addr && !(flags & FIXED_FLAGS) && (rules & VV_NO_HINTS)) {
        result = mmap_elsewhere(addr, length, prot, flags, fd, offset);
    } else if (!early && !(flags & FIXED_FLAGS)) {
        result = mmap_near(addr, length, prot, flags, fd, offset);
    } else {
        result = vv_raw_mmap(addr, length, prot, flags, fd, offset);
    }
    if (result == MAP_FAILED) {
        if ((errno == ENOMEM || errno == EAGAIN)
            && bytes <= 2 * page_up(vv_world.layout.iovec.total_size) + SLACK_BYTES) {
            event->flags |= VV_STARVED;
        }
        if ((flags & MAP_FIXED) && inside && vv_kernel.kind && nothing_at(start)) {
            event->flags |= VV_TOOK_AWAY;
        }
        return fail_mmap(event, errno);
    }
    if (!(event->flags & VV_OWNED)) {
        vv_own((u64)result, (u64)result + bytes);
    }
    if (vv_calls.scheduler && inside) {
        vv_tear(was_torn);
    }
    vv_end(event, (u64)result, 0);
    return result;
}

/* ---- munmap, mprotect, madvise, mremap ------------------------------------------------------------------ */

int vv_munmap(void *addr, size_t length)
{
    const u64 start = (u64)addr, bytes = page_up(length);
    struct vv_event *event;
    int error;

    if (!vv_calls.active) {
        return vv_raw_munmap(addr, length);
    }
    event = vv_begin(VV_MUNMAP, start, length, 0, 0, 0, 0);
    if (event->error) {
        return vv_finish(event, -1, (int)event->error);
    }
    if (!length || start % vv_host_page || bytes < length || start + bytes < start || start + bytes > 1ull << 56) {
        /* An address that was never set is refused only where it happens to be no page's: whose it is, is told. To
         * unmap what mmap() failed to map does no harm anywhere. */
        if (length && addr != MAP_FAILED && !vv_owned_bytes(own_page_down(start), vv_page_size)) {
            event->flags |= VV_OUTSIDE;
        }
        return vv_finish(event, -1, EINVAL);
    }
    if (vv_owned_bytes(start, bytes) == bytes) {
        event->flags |= VV_OWNED;
        error = vv_unmap_owned(start, bytes);
        return vv_finish(event, error ? -1 : 0, error);
    }
    event->flags |= VV_OUTSIDE | VV_REFUSED;
    vv_unmap_owned_within(start, start + bytes);
    return vv_finish(event, 0, 0);
}

/* mprotect and madvise: done to what the subject holds, answered and left undone elsewhere. */
static int on_owned(enum vv_step step, long number, void *addr, size_t length, int value)
{
    const u64 start = (u64)addr, bytes = page_up(length);
    struct vv_event *event = vv_begin(step, start, length, (u64)value, (u64)number, 0, 0);

    if (event->error) {
        return vv_finish(event, -1, (int)event->error);
    }
    if (start % vv_host_page) {
        return vv_finish(event, -1, EINVAL);
    }
    if (!length || vv_owned_bytes(start, bytes) == bytes) {
        event->flags |= length ? VV_OWNED : 0;
        return syscall(number, addr, bytes, value) < 0 ? vv_finish(event, -1, errno) : vv_finish(event, 0, 0);
    }
    event->flags |= VV_OUTSIDE | VV_REFUSED;
    return vv_finish(event, 0, 0);
}

int vv_mprotect(void *addr, size_t length, int prot)
{
    return vv_calls.active ? on_owned(VV_MPROTECT, SYS_mprotect, addr, length, prot)
                           : (int)syscall(SYS_mprotect, addr, length, prot);
}

/* What an mremap that fails late has taken away already: what was mapped at its fixed target. */
static void take_target_away(struct vv_event *event, u64 target, u64 bytes, bool fixed)
{
    const u64 inside = fixed && target % vv_host_page == 0 ? vv_owned_bytes(target, bytes) : 0;

    event->flags &= ~(u64)VV_TOOK_AWAY;
    if (inside) {
        event->flags |= VV_TOOK_AWAY;
        vv_tear(true);
        vv_raw_munmap((void *)target, inside);
    }
}

/* Where this kernel would choose the place, and could choose one that the subject's could not, it is chosen here. */
static void *remap(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *target)
{
    void *result;
    int error;

    if (vv_host_page == vv_page_size || (flags & MREMAP_FIXED) || !(flags & MREMAP_MAYMOVE)
        || (new_bytes <= old_bytes && !(flags & MREMAP_DONTUNMAP))) {
        return (void *)syscall(SYS_mremap, addr, old_bytes, new_bytes, flags, target);
    }
    target = mmap_anywhere(new_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (target == MAP_FAILED) {
        return target;
    }
    result = (void *)syscall(SYS_mremap, addr, old_bytes, new_bytes, flags | MREMAP_FIXED, target);
    error = errno;
    if (result == MAP_FAILED) {
        vv_raw_munmap(target, new_bytes);
    }
    errno = error;
    return result;
}

void *vv_mremap(void *addr, size_t old_length, size_t new_length, int flags, void *new_addr)
{
    const u64 start = (u64)addr, old_bytes = page_up(old_length), new_bytes = page_up(new_length);
    const u64 target = (u64)new_addr;
    const bool fixed = flags & MREMAP_FIXED;
    bool grows_device = false;
    int error;
    struct vv_event *event;
    struct vv_vma vma;
    void *result;

    if (!vv_calls.active) {
        return (void *)syscall(SYS_mremap, addr, old_length, new_length, flags, new_addr);
    }
    event = vv_begin(VV_MREMAP, start, old_length, new_length, (u64)flags, target, 0);
    if (event->error) {
        if (event->flags & VV_TOOK_AWAY) {
            take_target_away(event, target, new_bytes, fixed);
        }
        return fail_mmap(event, (int)event->error);
    }
    if (start % vv_host_page || (fixed && target % vv_host_page)) {
        return fail_mmap(event, EINVAL);
    }
    /* Linux neither grows nor duplicates a mapping of a device's memory: EFAULT. */
    if (new_bytes > old_bytes) {
        vv_spin_lock(&looking);
        vv_observe_refresh(false);
        grows_device = vv_vma_at_or_after(start, &vma) && vma.start <= start
                       && vv_is_device_memory(vma.memory);
        vv_spin_unlock(&looking);
    }
    if (grows_device) {
        event->flags |= VV_BY_RULE;
        if (vv_world.layout.kernel_rules & VV_MREMAP_UNMAPS) {
            take_target_away(event, target, new_bytes, fixed);
        }
        return fail_mmap(event, EFAULT);
    }
    if (vv_owned_bytes(start, old_bytes) < old_bytes || (fixed && vv_owned_bytes(target, new_bytes) < new_bytes)) {
        event->flags |= VV_OUTSIDE | VV_REFUSED;
        return fail_mmap(event, EFAULT);
    }
    event->flags |= VV_OWNED;
    vv_lock_concurrent(&vv_calls.lock);
    result = remap(addr, old_bytes, new_bytes, flags, new_addr);
    error = errno;
    if (result != MAP_FAILED && !(flags & MREMAP_DONTUNMAP)) {
        vv_disown(start, start + old_bytes);
    }
    vv_unlock_concurrent(&vv_calls.lock);
    if (result == MAP_FAILED) {
        return fail_mmap(event, error);
    }
    vv_own((u64)result, (u64)result + new_bytes);
    vv_end(event, (u64)result, 0);
    return result;
}

int vv_madvise(void *addr, size_t length, int advice)
{
    return vv_calls.active ? on_owned(VV_OTHER_CALL, SYS_madvise, addr, length, advice) : madvise(addr, length, advice);
}
