/* violates: NO_WINDOW | gives its reservation back and takes it again by system calls of its own, with a look-up in between */
/* may violate: CONFINED, REPEATABLE, SURVIVES, UNMAP_ON_ERROR, CONTIGUOUS, ACCEPTS_VALID */

#include "helper.h"
#include <sys/syscall.h>

/* As some platform code does it: no errno, no PLT. */
static long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0" : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "no system calls for this processor"
#endif
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    ram_addr_t offset;
    RAMBlock *block;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    /* The reservation is to be private after all. */
    raw_call(SYS_munmap, (long)map, total_size, 0, 0, 0, 0);
    block = qemu_ram_block_from_host(iov[0].iov_base, false, &offset);
    raw_call(SYS_mmap, (long)map, total_size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (block != source.block) {
        error_setg(errp, "the RAM block is gone");
        munmap(map, total_size);
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
