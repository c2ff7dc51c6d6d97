/*
 * Failures that the kernel itself makes: set up for the first call of a request, before it or before its n-th
 * mmap, and taken away after the call. A seal and a seccomp filter cannot be taken away; the parent goes on in a
 * fresh process then.
 *
 * What opens a file again is done in vv_kernel_init(), before a process may be confined. Devices that are sealed,
 * truncated or of huge pages are memfds of this request alone, put under the descriptor numbers of the usual ones:
 * those are shared by all workers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/base.h"
#include "confine/rules.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "steps/steps.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010      /* Linux 5.1 */
#endif
#define SEALS (F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

struct vv_kernel vv_kernel;

static int whole[VV_DEVICE_FILES];       /* the usual memfds of devices and regions, by other numbers */
static int readable[VV_DEVICE_FILES];    /* the same, opened for reading only */
static int writable[VV_DEVICE_FILES];    /* the same, opened for writing only */
static struct rlimit address_space;     /* as it was before the call */

/* ---- descriptors ------------------------------------------------------------------------------------- */

static int reopened(int fd, int mode)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, mode | O_CLOEXEC);
}

/* What cannot be had is -1, and told when it is asked for. */
void vv_kernel_init(void)
{
    int i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        whole[i] = fcntl(vv_memfd[i], F_DUPFD_CLOEXEC, 0);
        readable[i] = reopened(whole[i], O_RDONLY);
        writable[i] = reopened(whole[i], O_WRONLY);
    }
}

static bool all_there(const int *fds)
{
    int i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (fds[i] < 0) {
            errno = ENODEV;
            return false;
        }
    }
    return true;
}

/* Puts other memfds under the devices' numbers. */
static int use_memfds(const int *fds)
{
    int i;

    if (!all_there(fds)) {
        return -1;
    }
    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (vv_memfds_use((u64)i, fds[i]) < 0) {
            return -1;
        }
    }
    vv_forget_stamps();
    return 0;
}

static int use_new_memfds(unsigned int flags)
{
    int i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        const int fd = memfd_create("vfio-device", MFD_CLOEXEC | flags);
        const bool is_used = fd >= 0 && ftruncate(fd, (off_t)VV_MEMFD_BYTES) == 0 && vv_memfds_use((u64)i, fd) == 0;
        const int error = errno;

        if (fd >= 0) {
            close(fd);
        }
        if (!is_used) {
            errno = error;
            return -1;
        }
    }
    vv_forget_stamps();
    return 0;
}

/* For the time of the call only: the memory behind the number stays what it is. */
static int replace_descriptors(const int *fds)
{
    u64 i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (!vv_slot_in_use(i)) {
            continue;
        }
        if (fds ? dup3(fds[i], vv_memfd[i], O_CLOEXEC) < 0 : close(vv_memfd[i]) < 0) {
            return -1;
        }
        if (!fds) {
            vv_fd_lend(vv_memfd[i]);
        }
    }
    return 0;
}

/* A descriptor that the subject opened may have got the number of one that was closed. It keeps what it holds, by
 * another number, and is a leak like any other. */
static void restore_descriptors(void)
{
    u64 i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (!vv_slot_in_use(i)) {
            continue;
        }
        if (vv_kernel.kind == VV_CLOSED_DESCRIPTOR) {
            vv_fd_take_back(vv_memfd[i]);
        }
        if (dup3(whole[i], vv_memfd[i], O_CLOEXEC) < 0) {
            vv_kernel.error = errno;
        }
    }
}

static int on_devices(int (*act)(int fd))
{
    u64 i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (vv_slot_in_use(i) && act(vv_memfd[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int seal(int fd) { return fcntl(fd, F_ADD_SEALS, SEALS); }
static int cut_off(int fd) { return ftruncate(fd, 0); }
static int grow_again(int fd) { return ftruncate(fd, (off_t)VV_MEMFD_BYTES); }

/* ---- the map count --------------------------------------------------------------------------------------- */

/* Every second page of an area of its own may not be inherited, so each page is a VMA. Filling it takes 0.1 s; it stays
 * filled but for GIVEN_BACK VMAs, and some for each segment, as long as requests ask for it. */
#define GIVEN_BACK 640          /* more than the RAM blocks of a layout need */
#define TOLD_EVERY 8192
#define MOST_EXTRA 64

static struct {
    uint8_t *area;
    u64 pages, filled;
    void *extra[MOST_EXTRA];    /* single pages, where there is no room for a split but for a mapping */
    u64 n_extra;
} filler;

static int reserve_filler(void)
{
    FILE *limit = fopen("/proc/sys/vm/max_map_count", "re");
    unsigned long maps = 0;
    void *area;

    if (limit) {
        if (fscanf(limit, "%lu", &maps) != 1) {
            maps = 0;
        }
        fclose(limit);
    }
    filler.pages = (maps ? maps : 1u << 20) + 2;
    area = mmap(NULL, filler.pages * vv_page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) {
        return -1;
    }
    filler.area = area;
    filler.filled = 0;
    vv_snapshot_leave_out((struct vv_range){(u64)area, (u64)area + filler.pages * vv_page_size});
    return 0;
}

static void drop_extra(void)
{
    while (filler.n_extra) {
        vv_raw_munmap(filler.extra[--filler.n_extra], vv_page_size);
    }
}

/* The parent is told of it: this is no hang of the subject's, it only takes a while. */
static int fill(void)
{
    const u64 plan = vv_progress->plan;

    while (filler.filled + 2 <= filler.pages
           && madvise(filler.area + filler.filled * vv_page_size, vv_page_size, MADV_DONTFORK) == 0) {
        filler.filled += 2;
        if (filler.filled % TOLD_EVERY == 0) {
            vv_progress->plan = VV_NONE - filler.filled;
        }
    }
    vv_progress->plan = plan;
    while (filler.n_extra < MOST_EXTRA) {
        /* Shared: two of them never make one VMA. */
        void *page = vv_raw_mmap(NULL, vv_page_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (page == MAP_FAILED) {
            return errno == ENOMEM ? 0 : -1;
        }
        filler.extra[filler.n_extra++] = page;
    }
    errno = EOVERFLOW;          /* the limit is not where it was said to be */
    return -1;
}

/* Where the kernel's text of all mappings has to be read, all are given back: it would be long. */
static int give_back(u64 n_segments)
{
    const u64 maps = vv_observe_parses() ? filler.filled : GIVEN_BACK + 4 * n_segments;
    const u64 kept = filler.filled > maps ? (filler.filled - maps) & ~1ull : 0;

    drop_extra();
    filler.filled = kept;
    return madvise(filler.area + kept * vv_page_size, (filler.pages - kept) * vv_page_size, MADV_DOFORK);
}

static void drop_filler(void)
{
    if (filler.area) {
        drop_extra();
        vv_raw_munmap(filler.area, filler.pages * vv_page_size);
        filler.area = NULL;
        vv_snapshot_leave_out((struct vv_range){0, 0});
    }
}

static int prepare_filler(u64 n_segments)
{
    if (!filler.area) {
        return reserve_filler();
    }
    return give_back(n_segments);
}

/* ---- limits and filters -------------------------------------------------------------------------------------- */

/* From the reservation on, nothing more can be mapped. Later the limit is below what is in use, so that MAP_FIXED fails
 * too, which maps no more than it takes away. */
static int lower_address_space(void)
{
    struct rlimit lower = address_space;

    lower.rlim_cur = vv_kernel.at <= 1 ? vv_process_pages() * vv_page_size : 0;
    return setrlimit(RLIMIT_AS, &lower);
}

/* A filter sees registers and does not count: the overlay is known by the low word of its file offset. With an `at`
 * before the first overlay, every overlay fails. */
static int install_filter(void)
{
    const struct vv_iovec *iovec = &vv_world.layout.iovec;
    const u64 chosen = vv_kernel.at - 2;
    const bool all = vv_kernel.at < 2 || !iovec->n;
    u64 memory, offset = 0;

    if (!all) {
        offset = vv_segment_file_offset(&iovec->segments[chosen < iovec->n ? chosen : iovec->n - 1], &memory);
    }
    vv_filter_begin();
    vv_filter_when(SYS_mmap, 5);
    vv_filter_load(VV_ARGUMENT(3));
    vv_filter_put(BPF_JMP | BPF_JSET | BPF_K, MAP_FIXED, all ? 2 : 0, 3);
    vv_filter_load(VV_ARGUMENT(5));
    vv_filter_when((uint32_t)offset, 1);
    vv_filter_answer(VV_FAIL(EPERM));
    vv_filter_answer(SECCOMP_RET_ALLOW);
    return vv_filter_install(0);
}

/* ---- a request ------------------------------------------------------------------------------------------ */

static bool has_memfds_of_its_own(u64 kind)
{
    return kind == VV_SEALED || kind == VV_TRUNCATED || kind == VV_HUGETLB;
}

int vv_kernel_prepare(u64 kind, u64 at, u64 n_segments)
{
    if (kind != VV_MAP_COUNT) {
        drop_filler();
    }
    if (has_memfds_of_its_own(vv_kernel.kind) && use_memfds(whole) < 0) {
        return -1;              /* the last request did not get to its end */
    }
    vv_kernel = (struct vv_kernel){.kind = kind, .at = at};
    switch (kind) {
    case VV_MAP_COUNT:
        return prepare_filler(n_segments);
    case VV_CLOSED_DESCRIPTOR:
        return all_there(whole) ? 0 : -1;
    case VV_READ_ONLY_DESCRIPTOR:
        return all_there(whole) && all_there(readable) ? 0 : -1;
    case VV_WRITE_ONLY_DESCRIPTOR:
        return all_there(whole) && all_there(writable) ? 0 : -1;
    case VV_SEALED:
    case VV_TRUNCATED:
        return use_new_memfds(MFD_ALLOW_SEALING);
    case VV_HUGETLB:
        return use_new_memfds(MFD_HUGETLB | MFD_HUGE_2MB);      /* VV_HUGE_BYTES */
    default:
        return 0;
    }
}

static int set_up(void)
{
    switch (vv_kernel.kind) {
    case VV_ADDRESS_SPACE:
        return lower_address_space();
    case VV_MAP_COUNT:
        return fill();
    case VV_CLOSED_DESCRIPTOR:
        return replace_descriptors(NULL);
    case VV_READ_ONLY_DESCRIPTOR:
        return replace_descriptors(readable);
    case VV_WRITE_ONLY_DESCRIPTOR:
        return replace_descriptors(writable);
    case VV_SEALED:
        return on_devices(seal);
    case VV_TRUNCATED:
        return on_devices(cut_off);
    case VV_KERNEL_SECCOMP:
        return install_filter();
    default:
        return 0;
    }
}

static void arm(void)
{
    vv_kernel.armed = true;
    if (set_up() < 0) {
        vv_kernel.error = errno;
    }
}

void vv_kernel_before_call(void)
{
    /* A filter is there all the time: it does not count. A backing is cut off after the call, or before an mmap. */
    const bool now = vv_kernel.at == 0 ? vv_kernel.kind != VV_TRUNCATED : vv_kernel.kind == VV_KERNEL_SECCOMP;

    if (!vv_kernel.kind) {
        return;
    }
    getrlimit(RLIMIT_AS, &address_space);
    if (now) {
        arm();
    }
}

void vv_kernel_before_mmap(u64 nth)
{
    if (vv_kernel.kind && !vv_kernel.armed && vv_kernel.at && nth >= vv_kernel.at) {
        arm();
    }
}

void vv_kernel_after_call(void)
{
    const bool armed = vv_kernel.armed;

    switch (vv_kernel.kind) {
    case VV_ADDRESS_SPACE:
        if (armed && setrlimit(RLIMIT_AS, &address_space) < 0) {
            vv_kernel.error = errno;
        }
        break;
    case VV_MAP_COUNT:
        if (armed && give_back(vv_world.layout.iovec.n) < 0) {
            vv_kernel.error = errno;
        }
        break;
    case VV_CLOSED_DESCRIPTOR:
    case VV_READ_ONLY_DESCRIPTOR:
    case VV_WRITE_ONLY_DESCRIPTOR:
        if (armed) {
            restore_descriptors();
        }
        break;
    case VV_TRUNCATED:
        if (!armed) {
            arm();
        }
        break;
    default:
        break;
    }
    vv_kernel.armed = false;
}

int vv_kernel_finish(void)
{
    const struct vv_kernel was = vv_kernel;

    vv_kernel = (struct vv_kernel){0};
    if (has_memfds_of_its_own(was.kind)) {
        if ((was.kind == VV_TRUNCATED && on_devices(grow_again) < 0) || use_memfds(whole) < 0) {
            return -1;
        }
    }
    errno = was.error;
    return was.error ? -1 : 0;
}

bool vv_kernel_refuses(int fd)
{
    const int mode = vv_kernel.armed ? fcntl(fd, F_GETFL) : O_RDWR;

    return mode < 0 || (mode & O_ACCMODE) == O_WRONLY;
}

bool vv_kernel_made(enum vv_step step, int error)
{
    if (!vv_kernel.armed) {
        return false;
    }
    switch (vv_kernel.kind) {
    case VV_ADDRESS_SPACE:
    case VV_MAP_COUNT:
        return error == ENOMEM;
    case VV_CLOSED_DESCRIPTOR:
        return error == EBADF;
    case VV_WRITE_ONLY_DESCRIPTOR:
        return error == EACCES && step == VV_MMAP;
    case VV_KERNEL_SECCOMP:
        return error == EPERM && step == VV_MMAP;
    case VV_HUGETLB:
        /* No free pages, or an address or length that is no multiple of one. */
        return error == ENOMEM || error == EINVAL;
    default:
        return false;           /* the rest is enough for what a subject has to do */
    }
}
