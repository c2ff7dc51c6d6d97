/*
 * The system calls of a subject. Each is counted, recorded, failed if the fault plan says so, and
 * otherwise really made, unless it would damage the harness: what lies outside the subject's own
 * reservations is recorded and answered as Linux would, but not done.
 *
 * Subjects are linked with --wrap, so their mmap() is __wrap_mmap() below; libc's own is not
 * touched. Nothing here allocates.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

static struct vv_call_state first_thread;
_Thread_local struct vv_call_state *vv_call_state = &first_thread;
static char looking;                /* lock: at the text of /proc/self/maps, which is read into one place */

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

#define SLACK_BYTES (4u << 20)      /* for alignment: what a reservation may be larger than twice the total */
#define FIXED_FLAGS (MAP_FIXED | MAP_FIXED_NOREPLACE)

void *vv_raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

int vv_raw_munmap(void *addr, size_t length)
{
    return (int)syscall(SYS_munmap, addr, length);
}

/* ---- steps: counted, recorded, failed ------------------------------------------------------------ */

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults)
{
    memset(vv_calls.counts, 0, sizeof(vv_calls.counts));
    vv_calls.events = events;
    vv_calls.max_events = max_events;
    vv_calls.n_events = vv_calls.dropped = vv_calls.flags_union = 0;
    vv_calls.faults = faults;
    vv_calls.n_faults = n_faults;
    vv_calls.n_owned = 0;
    vv_calls.first_reservation = 0;
    vv_calls.nested = 0;
    vv_calls.n_references = vv_calls.read_locks = 0;
    vv_calls.holed = false;
}

void vv_calls_again(void)
{
    vv_calls.max_events = 0;
    vv_calls.n_faults = 0;
    vv_calls.flags_union = 0;
}

static u64 planned_fault(enum vv_step step, u64 nth, u64 *when)
{
    u64 i;

    for (i = 0; i < vv_calls.n_faults; i++) {
        const struct vv_fault *fault = &vv_calls.faults[i];

        if (fault->step == step && (fault->nth == nth || (fault->persistent && nth > fault->nth))) {
            *when = fault->when;
            return fault->error ? fault->error : EINVAL;
        }
    }
    return 0;
}

VV_EXPORT struct vv_event *vv_begin(enum vv_step step, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct vv_event *event = &vv_calls.spare;
    u64 when = VV_EARLY;

    vv_threads_pause();
    if (vv_calls.n_events < vv_calls.max_events) {
        if (vv_calls.order) {
            vv_calls.order[vv_calls.n_events] = vv_threads_order();
        }
        event = &vv_calls.events[vv_calls.n_events++];
    } else if (vv_calls.max_events) {
        vv_calls.dropped++;
    }
    vv_progress->n_events = vv_calls.n_events;
    *event = (struct vv_event){.step = step, .flags = VV_OPEN | (vv_calls.nested ? VV_NESTED : 0),
                               .arg = {a0, a1, a2, a3, a4, a5},
                               .caller = vv_caller()};
    event->error = planned_fault(step, ++vv_calls.counts[step], &when);
    if (event->error) {
        event->flags |= VV_FAULTED | (when == VV_LATE ? VV_TOOK_AWAY : 0);
    }
    return event;
}

VV_EXPORT void vv_end(struct vv_event *event, u64 result, int error)
{
    event->flags &= ~(u64)VV_OPEN;
    event->result = result;
    event->error = (u64)error;
    if (error && !(event->flags & (VV_FAULTED | VV_BY_RULE))) {
        event->flags |= VV_UNPLANNED | (vv_kernel_made(event->step, error) ? VV_BY_KERNEL : 0);
    }
    vv_calls.flags_union |= event->flags;
}

void vv_nested(int change)
{
    vv_calls.nested += change;
}

/* ---- references ------------------------------------------------------------------------------------- */

void vv_refer(const void *object, int change)
{
    const u64 most = sizeof(vv_calls.references) / sizeof(*vv_calls.references);
    struct vv_reference *reference;
    u64 i;

    if (!vv_calls.active || !object) {
        return;
    }
    for (i = 0; i < vv_calls.n_references && vv_calls.references[i].object != object; i++) {
    }
    if (i == most) {
        vv_die("the subject holds references to more than %zu objects", (size_t)most);
    }
    reference = &vv_calls.references[i];
    if (i == vv_calls.n_references) {
        vv_calls.n_references++;
        *reference = (struct vv_reference){.object = object, .taken_at = VV_NONE, .dropped_at = VV_NONE};
    }
    reference->count += change;
    if (change > 0) {
        reference->taken_at = vv_caller();
    } else if (reference->count < reference->lowest) {
        reference->lowest = reference->count;
        reference->dropped_at = reference->dropped_at == VV_NONE ? vv_caller() : reference->dropped_at;
    }
}

void vv_read_lock(int change)
{
    if (!vv_calls.active) {
        return;
    }
    if (change < 0 && !vv_calls.read_locks) {
        vv_die("rcu_read_unlock() without rcu_read_lock()");
    }
    vv_calls.read_locks += (u64)(int64_t)change;
}

/* ---- what the subject holds ------------------------------------------------------------------------ */

static const struct vv_range *owner(u64 address)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        if (address >= vv_calls.owned[i].start && address < vv_calls.owned[i].end) {
            return &vv_calls.owned[i];
        }
    }
    return NULL;
}

/* How many bytes from address on the subject holds, at most length. */
static u64 owned_bytes(u64 address, u64 length)
{
    u64 done = 0;

    while (done < length) {
        const struct vv_range *range = owner(address + done);
        if (!range) {
            break;
        }
        done = range->end - address;
    }
    return done < length ? done : length;
}

/* threads.c looks at what each thread owns, and maps memory: what is given up is unmapped and disowned at once. */
static void guard(void)
{
    if (vv_calls.at_once) {
        vv_spin_lock(&vv_calls.lock);
    }
}

static void unguard(void)
{
    if (vv_calls.at_once) {
        vv_spin_unlock(&vv_calls.lock);
    }
}

static void torn(bool now)
{
    guard();
    vv_calls.holed = now;
    unguard();
}

static void take_out(u64 start, u64 end)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        struct vv_range *range = &vv_calls.owned[i];

        if (end <= range->start || start >= range->end) {
            continue;
        }
        if (start > range->start && end < range->end) {
            if (vv_calls.n_owned == sizeof(vv_calls.owned) / sizeof(*range)) {
                vv_die("the subject tore its reservation into more than %zu pieces",
                       sizeof(vv_calls.owned) / sizeof(*range));
            }
            vv_calls.owned[vv_calls.n_owned++] = (struct vv_range){end, range->end};
            range->end = start;
        } else if (start > range->start) {
            range->end = start;
        } else if (end < range->end) {
            range->start = end;
        } else {
            *range = vv_calls.owned[--vv_calls.n_owned];
            i--;
        }
    }
}

static void own(u64 start, u64 end)
{
    u64 i;

    guard();
    take_out(start, end);
    if (!vv_calls.first_reservation) {
        vv_progress->reservation = vv_calls.first_reservation = start;
    }
    for (i = 0; i < vv_calls.n_owned; i++) {        /* many small mappings side by side are one range */
        struct vv_range *range = &vv_calls.owned[i];

        if (range->end == start || range->start == end) {
            start = range->start < start ? range->start : start;
            end = range->end > end ? range->end : end;
            *range = vv_calls.owned[--vv_calls.n_owned];
            i--;
        }
    }
    if (vv_calls.n_owned == sizeof(vv_calls.owned) / sizeof(*vv_calls.owned)) {
        vv_die("the subject holds more than %zu separate mappings", sizeof(vv_calls.owned) / sizeof(*vv_calls.owned));
    }
    vv_calls.owned[vv_calls.n_owned++] = (struct vv_range){start, end};
    unguard();
}

void vv_calls_release(void)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        vv_raw_munmap((void *)vv_calls.owned[i].start, vv_calls.owned[i].end - vv_calls.owned[i].start);
    }
    vv_calls.n_owned = 0;
}

/* ---- mmap ------------------------------------------------------------------------------------------- */

static bool is_device(int fd, u64 *memory)
{
    struct stat status;
    u64 i;

    for (i = 0; i < vv_world.layout.n_devices; i++) {       /* the usual ones, without a system call */
        if (fd == vv_world.device_fd[i]) {
            *memory = i;
            return true;
        }
    }
    if (fd < 0 || fstat(fd, &status) < 0) {
        return false;
    }
    vv_memory_of_inode(status.st_dev, status.st_ino, memory);
    return vv_is_device_memory(*memory);
}

/* vfio-pci's own mmap step: the region's length, rounded up to a page, bounds the mapping. Drivers
 * that are stricter also refuse what lies outside the areas: of the sparse capability, or the pages
 * of the MSI-X table, as before Linux 4.16. An ordinary
 * file, which a vfio-user server shares, refuses nothing. */
static bool device_refuses(u64 memory, u64 offset, u64 length, int flags)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 i, j, rule, start;

    for (i = 0; i < layout->n_regions; i++) {
        const struct vv_region *region = &layout->regions[i];

        rule = layout->devices[region->device].mmap_rule;
        start = offset - region->offset;
        if (region->memory != memory) {
            continue;
        }
        if (rule == VV_BY_NOTHING) {
            return false;
        }
        if (start >= page_up(region->size)) {
            continue;
        }
        if (!(region->flags & 4) || length > page_up(region->size) - start  /* ..._FLAG_MMAP */
            || (flags & MAP_TYPE) == MAP_PRIVATE) {
            return true;
        }
        if (rule != VV_BY_AREAS || !(region->sparse || region->msix == VV_MSIX_CUT)) {
            return false;
        }
        for (j = 0; j < layout->n_areas; j++) {
            const struct vv_area *area = &layout->areas[j];
            if (area->region == i && start >= area->offset && start + length <= area->offset + page_up(area->size)) {
                return false;
            }
        }
        return true;
    }
    return true;
}

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

/* Did a driver that failed late leave its hole? */
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

/* Where the subject's pages are larger than this machine's, a place that is aligned to them: cut out of a larger one. */
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

/* At the address asked for if that is free, and anywhere else if not; pages are as large as the subject's. */
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

VV_EXPORT void *vv_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
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
    inside = (flags & FIXED_FLAGS) && !early ? owned_bytes(start, bytes) : 0;
    if ((flags & FIXED_FLAGS) && !early) {
        event->flags |= inside == bytes ? VV_OWNED : VV_OUTSIDE;
    }
    if (!(event->flags & VV_FAULTED) && !early && !(flags & MAP_ANONYMOUS) && is_device(fd, &memory)
        && !vv_kernel_refuses(fd) && device_refuses(memory, (u64)offset, bytes, flags)) {
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
            torn(true);
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
    if (vv_calls.at_once && inside) {
        torn(true);                 /* unless the kernel agrees */
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
        if ((errno == ENOMEM || errno == EAGAIN) && bytes <= 2 * page_up(vv_world.layout.total_size) + SLACK_BYTES) {
            event->flags |= VV_STARVED;
        }
        if ((flags & MAP_FIXED) && inside && vv_kernel.kind && nothing_at(start)) {
            event->flags |= VV_TOOK_AWAY;
        }
        return fail_mmap(event, errno);
    }
    if (!(event->flags & VV_OWNED)) {
        own((u64)result, (u64)result + bytes);
    }
    if (vv_calls.at_once && inside) {
        torn(was_torn);
    }
    vv_end(event, (u64)result, 0);
    return result;
}

/* ---- munmap, mprotect, madvise, mremap ------------------------------------------------------------------ */

static int finish(struct vv_event *event, int result, int error)
{
    vv_end(event, (u64)(int64_t)result, error);
    if (error) {
        errno = error;
    }
    return result;
}

/* Unmaps what the subject holds of [start, start + bytes), which may be several pieces. */
static u64 unmap_owned(u64 start, u64 bytes)
{
    u64 done = 0, at = start;

    while (at < start + bytes) {
        u64 piece = owned_bytes(at, start + bytes - at);
        if (piece) {
            guard();
            vv_raw_munmap((void *)at, piece);
            take_out(at, at + piece);
            unguard();
            done += piece;
            at += piece;
        } else {
            u64 next = start + bytes, i;
            for (i = 0; i < vv_calls.n_owned; i++) {
                if (vv_calls.owned[i].start > at && vv_calls.owned[i].start < next) {
                    next = vv_calls.owned[i].start;
                }
            }
            at = next;
        }
    }
    return done;
}

VV_EXPORT int vv_munmap(void *addr, size_t length)
{
    const u64 start = (u64)addr, bytes = page_up(length);
    struct vv_event *event;
    int error;

    if (!vv_calls.active) {
        return vv_raw_munmap(addr, length);
    }
    event = vv_begin(VV_MUNMAP, start, length, 0, 0, 0, 0);
    if (event->error) {
        return finish(event, -1, (int)event->error);
    }
    if (!length || start % vv_host_page || bytes < length || start + bytes < start || start + bytes > 1ull << 56) {
        /* An address that was never set is refused only where it happens to be no page's: whose it is, is told. To
         * unmap what mmap() failed to map does no harm anywhere. */
        if (length && addr != MAP_FAILED && !owned_bytes(own_page_down(start), vv_page_size)) {
            event->flags |= VV_OUTSIDE;
        }
        return finish(event, -1, EINVAL);
    }
    if (owned_bytes(start, bytes) == bytes) {
        event->flags |= VV_OWNED;
        guard();
        error = vv_raw_munmap(addr, bytes) < 0 ? errno : 0;
        if (!error) {
            take_out(start, start + bytes);
        }
        unguard();
        if (error) {
            return finish(event, -1, error);
        }
        return finish(event, 0, 0);
    }
    event->flags |= VV_OUTSIDE | VV_REFUSED;
    unmap_owned(start, bytes);
    return finish(event, 0, 0);
}

/* mprotect and madvise: done to what the subject holds, answered and left undone elsewhere. */
static int on_owned(enum vv_step step, long number, void *addr, size_t length, int value)
{
    const u64 start = (u64)addr, bytes = page_up(length);
    struct vv_event *event = vv_begin(step, start, length, (u64)value, (u64)number, 0, 0);

    if (event->error) {
        return finish(event, -1, (int)event->error);
    }
    if (start % vv_host_page) {
        return finish(event, -1, EINVAL);
    }
    if (!length || owned_bytes(start, bytes) == bytes) {
        event->flags |= length ? VV_OWNED : 0;
        return syscall(number, addr, bytes, value) < 0 ? finish(event, -1, errno) : finish(event, 0, 0);
    }
    event->flags |= VV_OUTSIDE | VV_REFUSED;
    return finish(event, 0, 0);
}

VV_EXPORT int vv_mprotect(void *addr, size_t length, int prot)
{
    return vv_calls.active ? on_owned(VV_MPROTECT, SYS_mprotect, addr, length, prot)
                           : (int)syscall(SYS_mprotect, addr, length, prot);
}

/* What an mremap that fails late has taken away already: what was mapped at its fixed target. */
static void take_target_away(struct vv_event *event, u64 target, u64 bytes, bool fixed)
{
    const u64 inside = fixed && target % vv_host_page == 0 ? owned_bytes(target, bytes) : 0;

    event->flags &= ~(u64)VV_TOOK_AWAY;
    if (inside) {
        event->flags |= VV_TOOK_AWAY;
        torn(true);
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

VV_EXPORT void *vv_mremap(void *addr, size_t old_length, size_t new_length, int flags, void *new_addr)
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
    if (owned_bytes(start, old_bytes) < old_bytes || (fixed && owned_bytes(target, new_bytes) < new_bytes)) {
        event->flags |= VV_OUTSIDE | VV_REFUSED;
        return fail_mmap(event, EFAULT);
    }
    event->flags |= VV_OWNED;
    guard();
    result = remap(addr, old_bytes, new_bytes, flags, new_addr);
    error = errno;
    if (result != MAP_FAILED && !(flags & MREMAP_DONTUNMAP)) {
        take_out(start, start + old_bytes);
    }
    unguard();
    if (result == MAP_FAILED) {
        return fail_mmap(event, error);
    }
    own((u64)result, (u64)result + new_bytes);
    vv_end(event, (u64)result, 0);
    return result;
}

/* ---- descriptors -------------------------------------------------------------------------------------------- */

static int dup_as(long number, int fd, int target, int flags)
{
    struct vv_event *event = vv_begin(VV_DUP, (u64)(int64_t)fd, (u64)(int64_t)target, (u64)flags, (u64)number, 0, 0);
    int result;

    if (event->error) {
        return finish(event, -1, (int)event->error);
    }
    if (target >= 0 && vv_fd_is_foreign(target)) {
        event->flags |= VV_OUTSIDE | VV_REFUSED;    /* would close a descriptor that is not the subject's */
        return finish(event, target, 0);
    }
    result = (int)(target < 0 ? syscall(SYS_dup, fd) : syscall(SYS_dup3, fd, target, flags));
    return finish(event, vv_fd_opened(result), result < 0 ? errno : 0);
}

VV_EXPORT int vv_dup(int fd)
{
    return vv_calls.active ? dup_as(SYS_dup, fd, -1, 0) : (int)syscall(SYS_dup, fd);
}

/* A close of what is not the subject's, which is not done, or of what is not open: by then the number may be another
 * thread's. A negative one is nobody's. */
static bool astray(struct vv_event *event, int fd)
{
    const bool foreign = vv_fd_is_foreign(fd);

    if (!foreign && fcntl(fd, F_GETFD) >= 0) {
        return false;
    }
    event->flags |= foreign ? VV_OUTSIDE | VV_REFUSED : fd >= 0 ? VV_OUTSIDE : 0;
    finish(event, foreign ? 0 : -1, foreign ? 0 : EBADF);
    return true;
}

VV_EXPORT int vv_close(int fd)
{
    struct vv_event *event;

    if (!vv_calls.active) {
        return (int)syscall(SYS_close, fd);
    }
    event = vv_begin(VV_CLOSE, (u64)(int64_t)fd, 0, 0, 0, 0, 0);
    if (astray(event, fd)) {
        return (int)event->result;
    }
    vv_fd_closed(fd);
    syscall(SYS_close, fd);         /* Linux closes it even when it reports a failure */
    return event->error ? finish(event, -1, (int)event->error) : finish(event, 0, 0);
}

/* Each as by a close() of its own. */
static int close_from(unsigned int first, unsigned int last, int flags)
{
    u64 fd;

    if (!vv_calls.active || (flags & CLOSE_RANGE_CLOEXEC) || last < first) {
        return (int)syscall(SYS_close_range, first, last, flags);
    }
    for (fd = vv_fds_open_from(first); fd <= last; fd = vv_fds_open_from(fd + 1)) {
        vv_close((int)fd);
    }
    return 0;
}

/* ---- the names a subject is linked to ----------------------------------------------------------------------- */

VV_EXPORT void *__wrap_mmap(void *a, size_t n, int p, int f, int fd, off_t o) { return vv_mmap(a, n, p, f, fd, o); }
VV_EXPORT void *__wrap_mmap64(void *a, size_t n, int p, int f, int fd, off_t o) { return vv_mmap(a, n, p, f, fd, o); }
VV_EXPORT int __wrap_munmap(void *a, size_t n) { return vv_munmap(a, n); }
VV_EXPORT int __wrap_mprotect(void *a, size_t n, int prot) { return vv_mprotect(a, n, prot); }
VV_EXPORT int __wrap_dup(int fd) { return vv_dup(fd); }
VV_EXPORT int __wrap_close(int fd) { return vv_close(fd); }

VV_EXPORT int __wrap_dup2(int fd, int target)
{
    if (!vv_calls.active) {
        return dup2(fd, target);
    }
    return fd == target ? fd : dup_as(SYS_dup3, fd, target, 0);     /* arm64 has no dup2 */
}

VV_EXPORT int __wrap_dup3(int fd, int target, int flags)
{
    return vv_calls.active ? dup_as(SYS_dup3, fd, target, flags) : dup3(fd, target, flags);
}

VV_EXPORT int __wrap_close_range(unsigned int first, unsigned int last, int flags) { return close_from(first, last, flags); }
VV_EXPORT void __wrap_closefrom(int first) { close_from(first < 0 ? 0 : (unsigned int)first, ~0u, 0); }

VV_EXPORT int __wrap_fclose(FILE *stream)
{
    const int fd = fileno(stream);
    struct vv_event *event;
    int error;

    if (!vv_calls.active || fd < 0) {
        return fclose(stream);
    }
    event = vv_begin(VV_CLOSE, (u64)(int64_t)fd, 0, 0, 0, 0, 0);
    if (astray(event, fd)) {
        return event->error ? EOF : 0;
    }
    vv_fd_closed(fd);
    error = fclose(stream) == EOF ? errno : 0;
    error = event->error ? (int)event->error : error;
    return error ? finish(event, EOF, error) : finish(event, 0, 0);
}

VV_EXPORT int __wrap_madvise(void *addr, size_t length, int advice)
{
    return vv_calls.active ? on_owned(VV_OTHER_CALL, SYS_madvise, addr, length, advice) : madvise(addr, length, advice);
}

VV_EXPORT void *__wrap_mremap(void *addr, size_t old_length, size_t new_length, int flags, ...)
{
    va_list rest;
    void *target = NULL;

    if (flags & MREMAP_FIXED) {
        va_start(rest, flags);
        target = va_arg(rest, void *);
        va_end(rest);
    }
    return vv_mremap(addr, old_length, new_length, flags, target);
}

static int open_at(int directory, const char *path, int flags, mode_t mode)
{
    struct vv_event *event;
    int fd;

    if (!vv_calls.active) {
        return openat(directory, path, flags, mode);
    }
    event = vv_begin(VV_OTHER_CALL, (u64)(int64_t)directory, (u64)flags, 0, SYS_openat, 0, 0);
    if (event->error) {
        return finish(event, -1, (int)event->error);
    }
    fd = openat(directory, path, flags, mode);
    return finish(event, vv_fd_opened(fd), fd < 0 ? errno : 0);
}

#define OPEN_MODE(flags, mode)                          \
    do {                                                \
        if ((flags) & (O_CREAT | O_TMPFILE)) {          \
            va_list rest;                               \
            va_start(rest, flags);                      \
            mode = (mode_t)va_arg(rest, int);           \
            va_end(rest);                               \
        }                                               \
    } while (0)

VV_EXPORT int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_at(AT_FDCWD, path, flags, mode);
}

VV_EXPORT int __wrap_open64(const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_at(AT_FDCWD, path, flags, mode);
}

VV_EXPORT int __wrap_openat(int directory, const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_at(directory, path, flags, mode);
}

VV_EXPORT int __wrap_fcntl(int fd, int command, ...)
{
    va_list rest;
    long value;
    struct vv_event *event;
    int result;

    va_start(rest, command);
    value = va_arg(rest, long);
    va_end(rest);
    if (!vv_calls.active || (command != F_DUPFD && command != F_DUPFD_CLOEXEC)) {
        return fcntl(fd, command, value);
    }
    event = vv_begin(VV_DUP, (u64)(int64_t)fd, (u64)value, (u64)command, SYS_fcntl, 0, 0);
    if (event->error) {
        return finish(event, -1, (int)event->error);
    }
    result = fcntl(fd, command, value);
    return finish(event, vv_fd_opened(result), result < 0 ? errno : 0);
}

/* The subject is told of its own pages. */
VV_EXPORT long __wrap_sysconf(int name) { return name == _SC_PAGESIZE ? (long)vv_host_page : sysconf(name); }
VV_EXPORT int __wrap_getpagesize(void) { return (int)vv_host_page; }

/* The heap of the process must not grow between two snapshots, and System V segments are not ours to undo. */
VV_EXPORT int __wrap_brk(void *end) { (void)end; errno = ENOMEM; return -1; }
VV_EXPORT void *__wrap_sbrk(intptr_t by) { (void)by; errno = ENOMEM; return (void *)-1; }
VV_EXPORT void *__wrap_shmat(int id, const void *addr, int flags) { (void)id; (void)addr; (void)flags; errno = ENOSYS; return (void *)-1; }
VV_EXPORT int __wrap_shmdt(const void *addr) { (void)addr; errno = ENOSYS; return -1; }

VV_EXPORT _Noreturn void __wrap_exit(int status) { vv_die("called exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap__exit(int status) { vv_die("called _exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap__Exit(int status) { vv_die("called _Exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap_abort(void) { vv_die("called abort()"); }

VV_EXPORT _Noreturn void __wrap___assert_fail(const char *what, const char *file, unsigned int line, const char *function)
{
    vv_die_of(VV_DEATH_ASSERTION, "%s:%u: %s: assertion `%s' failed", file, line, function, what);
}

/* syscall(2) reaches the same interposers; what they do not know is made as it is. */
VV_EXPORT long __wrap_syscall(long number, ...)
{
    va_list rest;
    long a[6];
    int i;

    va_start(rest, number);
    for (i = 0; i < 6; i++) {
        a[i] = va_arg(rest, long);
    }
    va_end(rest);
    if (!vv_calls.active) {
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    switch (number) {
    case SYS_mmap:
        return (long)vv_mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
    case SYS_munmap:
        return vv_munmap((void *)a[0], (size_t)a[1]);
    case SYS_mprotect:
        return vv_mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
    case SYS_madvise:
        return __wrap_madvise((void *)a[0], (size_t)a[1], (int)a[2]);
    case SYS_mremap:
        return (long)vv_mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
    case SYS_dup:
        return vv_dup((int)a[0]);
    case SYS_dup3:
        return __wrap_dup3((int)a[0], (int)a[1], (int)a[2]);
    case SYS_close:
        return vv_close((int)a[0]);
    case SYS_close_range:
        return close_from((unsigned int)a[0], (unsigned int)a[1], (int)a[2]);
    case SYS_exit:
    case SYS_exit_group:
        vv_die("called exit(%ld) by syscall()", a[0]);
    case SYS_brk:
        errno = ENOMEM;
        return -1;
    default:
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}
