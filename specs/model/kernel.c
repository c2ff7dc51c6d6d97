/*
 * The kernel's side: mappings, at the pages that are watched; descriptors; steps that fail.
 *
 * Each mapping that is made at no fixed address gets a place of its own, far from all others.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"

#include <pthread.h>

#define PLACES 8
#define FIRST_PLACE 0x400000000000ull
#define PLACE_BYTES (1ull << 43)
#define DEVICE_FDS 100
#define REGION_FDS 110
#define OWN_FDS 200
#define MOST_OWN_FDS 4
#define SLACK_BYTES (4ull << 20)    /* for alignment: what a reservation may be larger than twice the total */

struct vm_kernel vm_kernel;
struct vm_watched vm_page[VM_WATCHED];

static struct { u64 start, bytes; bool free, torn; } place[PLACES];
static unsigned n_places, n_slots;  /* a slot is where the kernel makes a mapping by itself: one after the other */
unsigned vm_counts[VM_STEPS];
static struct { bool open; int memory; } own_fd[MOST_OWN_FDS];
static unsigned n_own_fds;
static struct { u64 start, bytes; } hole[VM_MOST_FAILED];       /* where a mapping that failed late took another away */
static unsigned n_holes;
static bool faults_are_over;

u64 vm_place(unsigned number)
{
    return FIRST_PLACE + number * PLACE_BYTES;
}

static bool covers(unsigned w, u64 start, u64 bytes)
{
    return vm_given.watched[w] - start < bytes;
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

bool vm_fails(enum vm_step step, int *error, bool *late)
{
    const unsigned nth = ++vm_counts[step];
    unsigned f;

    for (f = 0; f < VM_FAULTS; f++) {
        if (!faults_are_over && vm_given.fault[f].used && vm_given.fault[f].step == step
            && (vm_given.fault[f].nth == nth || (vm_given.fault[f].persistent && vm_given.fault[f].nth < nth))) {
            *error = (int)vm_given.fault[f].error;
            if (late) {
                *late = vm_given.fault[f].late;
            }
            vm_kernel.failed = true;
            return true;
        }
    }
    return false;
}

void vm_page_begin(unsigned w)
{
    unsigned b;

    vm_page[w] = (struct vm_watched){.state = VM_FREE};
    for (b = 0; b < VM_BLOCKS; b++) {
        if (covers(w, vm_block_host(b), vm_given.block[b].size)) {
            vm_page[w].state = VM_FOREIGN;
        }
    }
}

void vm_kernel_begin(void)
{
    unsigned w, b;

    for (w = 0; w < vm_n_watched; w++) {
        vm_page_begin(w);
    }
    vm_kernel = (struct vm_kernel){false};
    n_places = n_slots = n_own_fds = n_holes = 0;
    faults_are_over = false;
    for (b = 0; b < VM_STEPS; b++) {
        vm_counts[b] = 0;
    }
}

void vm_next_call(void)
{
    faults_are_over = true;
    vm_kernel.failed = vm_kernel.starved = false;
    vm_kernel.n_failed_mmaps = vm_kernel.n_failed_look_ups = 0;
    vm_kernel.kept_fds = vm_kernel.kept_blocks = vm_kernel.kept_references = vm_kernel.kept_locks = 0;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------------ */

int vm_device_fd(unsigned device)
{
    return vm_given.device[device].region_fds ? -1 : DEVICE_FDS + (int)device;
}

int vm_region_fd(unsigned region)
{
    return REGION_FDS + (int)region;
}

static int file_of_region(unsigned r)
{
    const unsigned device = (unsigned)vm_given.region[r].device;

    return vm_given.device[device].region_files ? VM_DEVICES + (int)r : (int)device;
}

/* The file behind an open descriptor, or -1. */
static int file_of(int fd)
{
    unsigned i;

    for (i = 0; i < VM_DEVICES; i++) {
        if (fd == DEVICE_FDS + (int)i && !vm_given.device[i].region_fds) {
            return (int)i;
        }
    }
    for (i = 0; i < VM_REGIONS; i++) {
        if (fd == vm_region_fd(i)) {
            return file_of_region(i);
        }
    }
    for (i = 0; i < MOST_OWN_FDS; i++) {
        if (fd == OWN_FDS + (int)i && own_fd[i].open) {
            return own_fd[i].memory;
        }
    }
    return -1;
}

static int duplicate(int fd)
{
    int error = 0;
    unsigned i;

    if (vm_fails(VM_DUP, &error, NULL)) {
        errno = error;
        return -1;
    }
    if (file_of(fd) < 0) {
        errno = EBADF;
        return -1;
    }
    vm_kernel.kept_fds++;
    for (i = 0; i < MOST_OWN_FDS; i++) {
        if (i == n_own_fds) {
            n_own_fds++;
            own_fd[i].open = true;
            own_fd[i].memory = file_of(fd);
            return OWN_FDS + (int)i;
        }
    }
    vm_leave("room for more descriptors");
}

int vm_dup(int fd) { return duplicate(fd); }
int qemu_dup(int fd) { return duplicate(fd); }

int vm_fcntl(int fd, int command, ...)
{
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        return duplicate(fd);
    }
    if (command != F_GETFD && command != F_GETFL) {
        vm_leave("fcntl() with this command");
    }
    if (file_of(fd) < 0) {
        errno = EBADF;
        return -1;
    }
    return command == F_GETFD ? FD_CLOEXEC : vm_given.read_only ? O_RDONLY : O_RDWR;
}

/* close(2): whatever it answers, the descriptor is gone. */
int vm_close(int fd)
{
    int error = 0;
    const bool fails = vm_fails(VM_CLOSE, &error, NULL);
    bool own = false;
    unsigned i;

    for (i = 0; i < MOST_OWN_FDS; i++) {
        if (fd == OWN_FDS + (int)i && own_fd[i].open) {
            own_fd[i].open = false;
            vm_kernel.kept_fds--;
            own = true;
        }
    }
    if (!own && fd >= 0) {
        vm_violate(VM(NO_LEAK));        /* another's, or nobody's */
        if (file_of(fd) < 0) {
            errno = EBADF;
            return -1;
        }
    } else if (!own) {
        errno = EBADF;
        return -1;
    }
    if (fails) {
        errno = error;
        return -1;
    }
    return 0;
}

int qemu_close(int fd) { return vm_close(fd); }

/* ---- mmap ---------------------------------------------------------------------------------------------------------------- */

static void tear(u64 start, u64 bytes)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED; i++) {
        if (i == n_holes) {
            hole[i].start = start;
            hole[i].bytes = bytes;
            n_holes++;
            return;
        }
    }
    vm_leave("room for more holes");
}

static void fill_holes(u64 start, u64 bytes)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED && i < n_holes; i++) {
        if (hole[i].start >= start && hole[i].bytes <= bytes && hole[i].start - start <= bytes - hole[i].bytes) {
            hole[i].bytes = 0;
        }
    }
}

static bool is_torn(u64 start, u64 bytes)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED && i < n_holes; i++) {
        if (hole[i].bytes && start < hole[i].start + hole[i].bytes && hole[i].start < start + bytes) {
            return true;
        }
    }
    return false;
}

/* What a device's driver refuses to map. `bytes` are whole pages. */
static bool driver_refuses(int memory, u64 offset, u64 bytes, int flags)
{
    unsigned r, a;

    for (r = 0; r < VM_REGIONS; r++) {
        const u64 rule = vm_given.device[vm_given.region[r].device].rule;
        const u64 start = offset - vm_given.region[r].offset, size = vm_page_up(vm_given.region[r].size);

        if (file_of_region(r) != memory) {
            continue;
        }
        if (rule == VM_BY_NOTHING) {
            return false;
        }
        if (start >= size) {
            continue;
        }
        if (bytes > VM_MOST_BYTES || start + bytes > size || (flags & MAP_TYPE) == MAP_PRIVATE) {
            return true;
        }
        if (rule == VM_BY_REGION || !(vm_given.region[r].sparse || vm_given.region[r].msix == VM_MSIX_CUT)) {
            return false;
        }
        for (a = 0; a < VM_AREAS; a++) {
            if (a < vm_given.region[r].n_areas && start >= vm_given.area[r][a].offset
                && start + bytes <= vm_given.area[r][a].offset + vm_page_up(vm_given.area[r][a].size)) {
                return false;
            }
        }
        return true;
    }
    return true;
}

/* Whether the kernel finds a range free that was asked for. */
static bool is_free(u64 start, u64 bytes)
{
    unsigned b, p;

    if (start >= VM_TASK_END || bytes > VM_TASK_END - start) {
        return false;
    }
    for (b = 0; b < VM_BLOCKS; b++) {
        const u64 host = vm_block_host(b);

        if (start < host + vm_given.block[b].size && host < start + bytes) {
            return false;
        }
    }
    for (p = 0; p < PLACES && p < n_places; p++) {
        if (start < place[p].start + place[p].bytes && place[p].start < start + bytes && !place[p].free) {
            if (place[p].torn) {
                vm_leave("hints at a mapping that was unmapped in parts");
            }
            return false;
        }
    }
    return true;
}

static u64 new_place(u64 bytes, u64 at)
{
    const u64 start = at ? at : vm_place(n_slots), end = start + bytes;
    unsigned p;

    if (!at) {
        n_slots++;
    } else if (end > vm_place(n_slots)) {
        n_slots = (unsigned)((end - FIRST_PLACE) / PLACE_BYTES) + 1;
    }
    if (end > VM_TASK_END) {
        vm_leave("room for more mappings");
    }
#ifdef VM_NATIVE
    if (at) {
        vm_watch_more(at);
    }
#endif
    for (p = 0; p < PLACES; p++) {
        if (p == n_places) {
            place[p].start = start;
            place[p].bytes = bytes;
            place[p].free = place[p].torn = false;
            n_places++;
            return start;
        }
    }
    vm_leave("room for more mappings");
}

static void fill(unsigned w, u64 start, int prot, int flags, int memory, u64 offset)
{
    vm_page[w].window = vm_page[w].window || vm_page[w].freed;
    vm_page[w].own = true;
    vm_page[w].freed = false;
    vm_page[w].prot = prot;
    vm_page[w].shared = (flags & MAP_TYPE) != MAP_PRIVATE;
    vm_page[w].state = flags & MAP_ANONYMOUS ? VM_ANONYMOUS : VM_FILE;
    vm_page[w].memory = memory;
    vm_page[w].zero = offset - start;
}

static void *refuse(int error)
{
    errno = error;
    return MAP_FAILED;
}

static void note_failed_mmap(struct vm_failed_mmap failed)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED; i++) {
        if (i == vm_kernel.n_failed_mmaps) {
            vm_kernel.failed_mmap[i] = failed;
            vm_kernel.n_failed_mmaps++;
            return;
        }
    }
    vm_leave("room for more failed mappings");
}

/* A step that failed was made again, or something took its place after that. */
static void note_done(const struct vm_failed_mmap *done, u64 result)
{
    unsigned i;

    for (i = 0; i < VM_MOST_FAILED; i++) {
        struct vm_failed_mmap *failed = &vm_kernel.failed_mmap[i];

        if (i >= vm_kernel.n_failed_mmaps) {
            break;
        }
        if (done->start == failed->start && done->length == failed->length && done->prot == failed->prot
            && done->flags == failed->flags && done->fd == failed->fd && done->offset == failed->offset) {
            failed->again = true;
        } else if (failed->start < result + done->bytes && result < failed->start + failed->bytes) {
            failed->again = false;
        }
    }
}

void *vm_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
    const u64 start = (u64)address, bytes = vm_page_up(length);
    const struct vm_failed_mmap this = {start, bytes, length, prot, flags, fd, (u64)offset, false};
    const int asked = vm_given.noreplace ? flags : flags & ~MAP_FIXED_NOREPLACE;
    const bool fixed = asked & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    const bool early = !length || vm_in_page((u64)offset) || bytes < length
                       || (fixed && (vm_in_page(start) || start + bytes < start));
    int error = 0, memory = -1;
    bool late = false, by_plan;
    u64 result;
    unsigned w;

    by_plan = vm_fails(VM_MMAP, &error, &late);
    if (by_plan) {
        note_failed_mmap(this);
    }
    for (w = 0; w < vm_n_watched && fixed && !early; w++) {
        if (covers(w, start, bytes) && !vm_page[w].own && !(flags & MAP_FIXED_NOREPLACE)) {
            vm_violate(VM(CONFINED));
        }
    }
    if (!by_plan && !early && !(flags & MAP_ANONYMOUS)) {
        memory = file_of(fd);
        if (memory >= 0 && driver_refuses(memory, (u64)offset, bytes, flags)) {
            error = EINVAL;
            late = true;
        }
    }
    if (!error && !early && memory >= 0 && vm_given.read_only && (prot & PROT_WRITE)
        && (flags & MAP_TYPE) != MAP_PRIVATE) {
        error = EACCES;
        note_failed_mmap(this);
    }
    if (!error && !early && (flags & MAP_LOCKED) && !vm_given.locks) {
        error = EAGAIN;
    }
    if (error) {
        if (late && (asked & MAP_FIXED) && !early) {
            tear(start, bytes);
            for (w = 0; w < vm_n_watched; w++) {
                if (covers(w, start, bytes) && vm_page[w].own) {
                    vm_page[w].state = VM_HOLE;
                }
            }
        }
        return refuse(error);
    }
    if (early) {
        return refuse(length && bytes < length ? ENOMEM : EINVAL);
    }
    if (!(flags & MAP_ANONYMOUS) && memory < 0) {
        return refuse(EBADF);
    }
    if ((flags & MAP_TYPE) == 0 || (!(flags & MAP_ANONYMOUS) && (u64)offset + bytes < bytes)) {
        return refuse((flags & MAP_TYPE) == 0 ? EINVAL : EOVERFLOW);
    }
    if (bytes > PLACE_BYTES - VM_PAGE) {
        if (bytes <= 2 * vm_page_up(vm_given.call[0].total_size) + SLACK_BYTES) {
            vm_kernel.starved = true;
        }
        return refuse(ENOMEM);
    }
    if (fixed) {
        if ((asked & MAP_FIXED_NOREPLACE) && !is_free(start, bytes)) {
            return refuse(EEXIST);
        }
        if (start >= VM_TASK_END || bytes > VM_TASK_END - start) {
            return refuse(ENOMEM);
        }
        result = asked & MAP_FIXED_NOREPLACE ? new_place(bytes, start) : start;
    } else {
        const u64 hint = vm_page_up(start);

        result = new_place(bytes, hint && vm_given.hints && is_free(hint, bytes) ? hint : 0);
    }
    for (w = 0; w < vm_n_watched; w++) {
        /* What lies outside of what is held is not replaced: it is another's. */
        if (covers(w, result, bytes) && vm_page[w].state != VM_FOREIGN) {
            fill(w, result, prot, flags, memory, (u64)offset);
        }
    }
    fill_holes(result, bytes);
    note_done(&this, result);
    return (void *)result;
}

/* ---- munmap, mprotect, madvise ----------------------------------------------------------------------------------------- */

static void free_place(u64 start, u64 bytes)
{
    unsigned p;

    for (p = 0; p < PLACES && p < n_places; p++) {
        if (start <= place[p].start && bytes >= place[p].bytes && place[p].start - start <= bytes - place[p].bytes) {
            place[p].free = true;
        } else if (start < place[p].start + place[p].bytes && place[p].start < start + bytes) {
            place[p].torn = true;
        }
    }
}

int vm_munmap(void *address, size_t length)
{
    const u64 start = (u64)address, bytes = vm_page_up(length);
    const struct vm_failed_mmap this = {.start = start, .bytes = bytes};
    int error = 0;
    unsigned w;

    if (vm_fails(VM_MUNMAP, &error, NULL)) {
        for (w = 0; w < vm_n_watched; w++) {
            vm_page[w].excused = vm_page[w].excused || covers(w, start, bytes);
        }
        errno = error;
        return -1;
    }
    if (!length || vm_in_page(start) || bytes < length || start + bytes < start || start + bytes > 1ull << 56) {
        /* An address that was never set is refused only where it happens to be no page's. To unmap what mmap() failed
         * to map does no harm anywhere. */
        bool foreign = start >= VM_TASK_END;

        for (w = 0; w < vm_n_watched; w++) {
            foreign = foreign || (vm_given.watched[w] == (start & ~(VM_PAGE - 1)) && !vm_page[w].own);
        }
        if (length && address != MAP_FAILED && foreign) {
            vm_violate(VM(CONFINED));
        }
        errno = EINVAL;
        return -1;
    }
    for (w = 0; w < vm_n_watched; w++) {
        if (!covers(w, start, bytes)) {
            continue;
        }
        if (vm_page[w].own) {
            vm_page[w].state = VM_FREE;
            vm_page[w].own = false;
            vm_page[w].freed = true;
        } else {
            vm_violate(VM(CONFINED));
        }
    }
    if (start >= VM_TASK_END) {
        vm_violate(VM(CONFINED));
    }
    free_place(start, bytes);
    note_done(&this, start);
    return 0;
}

int vm_mprotect(void *address, size_t length, int prot)
{
    const u64 start = (u64)address, bytes = vm_page_up(length);
    int error = 0;
    unsigned w;

    if (vm_fails(VM_MPROTECT, &error, NULL)) {
        errno = error;
        return -1;
    }
    if (vm_given.read_only && (prot & PROT_WRITE)) {
        vm_leave("mprotect() to write what is open for reading only");
    }
    if (vm_in_page(start)) {
        errno = EINVAL;
        return -1;
    }
    if (is_torn(start, bytes)) {
        errno = ENOMEM;
        return -1;
    }
    for (w = 0; w < vm_n_watched; w++) {
        if (!covers(w, start, bytes)) {
            continue;
        }
        if (vm_page[w].own) {
            vm_page[w].prot = prot;
        } else {
            vm_violate(VM(CONFINED));
        }
    }
    return 0;
}

int vm_end(u64 address, u64 length)
{
    const bool over = faults_are_over;
    int result;

    faults_are_over = true;
    result = vm_munmap((void *)address, length);
    faults_are_over = over;
    return result;
}

long vm_sysconf(int name)
{
    if (name != _SC_PAGESIZE) {
        vm_leave("this value of sysconf()");
    }
    return (long)VM_PAGE;
}

int vm_getpagesize(void) { return (int)VM_PAGE; }
pid_t vm_getpid(void) { return 4242; }
uintptr_t qemu_real_host_page_size(void) { return VM_PAGE; }
intptr_t qemu_real_host_page_mask(void) { return -(intptr_t)VM_PAGE; }

/* ---- locks: there is one thread, which waits for ever for what it holds ------------------------------------------------ */

static bool is_held(pthread_mutex_t *mutex) { return mutex->__data.__lock; }

int vm_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    if (attributes) {
        vm_leave("locks with attributes");
    }
    mutex->__data.__lock = 0;
    return 0;
}

int vm_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (is_held(mutex)) {
        vm_die(VM(SURVIVES));
    }
    mutex->__data.__lock = 1;
    return 0;
}

int vm_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    if (is_held(mutex)) {
        return EBUSY;
    }
    mutex->__data.__lock = 1;
    return 0;
}

int vm_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    mutex->__data.__lock = 0;
    return 0;
}

int vm_pthread_mutex_destroy(pthread_mutex_t *mutex) { return is_held(mutex) ? EBUSY : 0; }
