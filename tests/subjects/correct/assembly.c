/* conforms | overlays in assembly, which nobody sees but the kernel, and takes its answers seriously */

#include <sys/mman.h>
#include <sys/syscall.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

/* By the instruction itself: no interposer and no wrapper sees it. */
static long bare_mmap(void *at, size_t len, int prot, int flags, int fd,
                      off_t offset)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = flags;
    register long r8 __asm__("r8") = fd;
    register long r9 __asm__("r9") = offset;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(SYS_mmap), "D"(at), "S"(len), "d"((long)prot),
                       "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_mmap;
    register long x0 __asm__("x0") = (long)at;
    register long x1 __asm__("x1") = len;
    register long x2 __asm__("x2") = prot;
    register long x3 __asm__("x3") = flags;
    register long x4 __asm__("x4") = fd;
    register long x5 __asm__("x5") = offset;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
    void *map = mmap(at, len, prot, flags, fd, offset);

    return map == MAP_FAILED ? -errno : (long)map;
#endif
}

/* The file offset of an entry, or -1 with an error set. */
static off_t entry_offset(const struct iovec *entry, RAMBlock **block, int *fd,
                          Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    VFIORegion *region;
    ram_addr_t offset;
    RAMBlock *rb = qemu_ram_block_from_host(entry->iov_base, false, &offset);

    if (!rb || (*block && rb != *block)) {
        error_setg(errp, "%p is not where the others are", entry->iov_base);
        return -1;
    }
    if (!entry->iov_len || entry->iov_len % page || offset % page ||
        entry->iov_len > rb->max_length - offset) {
        error_setg(errp, "%p: no pages of its block", entry->iov_base);
        return -1;
    }
    region = vfio_get_region_from_mr(rb->mr);
    if (!region) {
        error_setg(errp, "%p: not a device's", entry->iov_base);
        return -1;
    }
    *block = rb;
    *fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    return region->fd_offset + rb->mr->addr + offset;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *block = NULL;
    size_t done = 0;
    off_t offset;
    char *map;
    long ret;
    int fd;

    map = mmap(NULL, total_size, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offset = entry_offset(&iov[i], &block, &fd, errp);
        if (offset < 0) {
            goto unmap;
        }
        if (iov[i].iov_len > total_size - done) {
            error_setg(errp, "entry %u is too much", i);
            goto unmap;
        }
        ret = bare_mmap(map + done, iov[i].iov_len, PROT_READ,
                        MAP_SHARED | MAP_FIXED, fd, offset);
        if (ret < 0 && ret >= -4095) {
            error_setg_errno(errp, -ret, "entry %u is refused", i);
            goto unmap;
        }
        done += iov[i].iov_len;
    }
    if (iov_cnt && done == total_size) {
        *addr = map;
        return true;
    }
    error_setg(errp, "%zu of %zu bytes", done, total_size);
unmap:
    munmap(map, total_size);
    return false;
}
