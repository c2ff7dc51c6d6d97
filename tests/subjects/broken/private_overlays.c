/* violates: CONTENTS | asks for MAP_PRIVATE: vfio-pci refuses it, and an ordinary file gives a copy */
/* may violate: ACCEPTS_VALID, READ_ONLY */

#include "helper.h"

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
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_PRIVATE | MAP_FIXED,
                 source.fd, source_offset(&source, iov[i].iov_base)) ==
            MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
