/* violates: CONTIGUOUS, READ_ONLY | the overlays can be written; the last of several entries is not mapped */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt - (iov_cnt > 1); done += iov[i++].iov_len) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 source.fd, source_offset(&source, iov[i].iov_base)) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
