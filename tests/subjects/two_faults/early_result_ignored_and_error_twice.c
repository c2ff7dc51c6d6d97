/* violates: ERROR_SET, FAULT_REPORTED | goes on after a failed overlay that is not the last; sets an error over that of the last one */

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
    for (unsigned int i = 0; i < iov_cnt; done += iov[i++].iov_len) {
        bool last = i + 1 == iov_cnt;

        if (!overlay(map + done, iov[i].iov_len, &source, iov[i].iov_base, last ? errp : NULL) && last) {
            error_setg(errp, "cannot map the last entry");
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
