/* violates: CONTIGUOUS | only when the kernel itself refuses an overlay: they are made in assembly, and the answer is dropped */

#include <sys/syscall.h>
#include "helper.h"

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

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        bare_mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                  source.fd, source_offset(&source, iov[i].iov_base));
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
