/* violates: NO_LEAK | leaves an interval timer that ends the process in a later call */

#include "hostile.h"

static void deed(void)
{
    const struct itimerval soon = {{0, 0}, {4, 0}};     /* longer than the longest call takes under a sanitizer */

    setitimer(ITIMER_REAL, &soon, NULL);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
