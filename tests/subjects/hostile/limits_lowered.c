/* conforms | lowers the limits on descriptors and files, and leaves them so */

#include "hostile.h"

static void deed(void)
{
    const struct rlimit few = {8, 8};

    setrlimit(RLIMIT_NOFILE, &few);
    setrlimit(RLIMIT_FSIZE, &few);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
