/* conforms | has handlers of its own for every signal, and keeps them */

#include "hostile.h"

static void deed(void)
{
    int number;

    for (number = 1; number < 32; number++) {
        signal(number, SIG_IGN);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
