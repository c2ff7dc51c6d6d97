/* violates: SURVIVES | calls itself without end */

#include "hostile.h"

static long deep(long n)
{
    volatile char room[4096];

    room[n % 4096] = 1;
    return deep(n + 1) + room[n % 7];
}

static void deed(void)
{
    (void)deep((long)time(NULL));
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
