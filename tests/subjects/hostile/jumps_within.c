/* conforms | leaves a loop by longjmp() */

#include "hostile.h"

static void deed(void)
{
    jmp_buf here;
    volatile int n = 0;

    if (setjmp(here) < 3) {
        longjmp(here, ++n);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
