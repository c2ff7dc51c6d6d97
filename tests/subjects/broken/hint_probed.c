/* violates: NO_WINDOW | reserves only to learn a free address, gives it back, and maps each entry with it as a hint */
/* may violate: CONFINED, ACCEPTS_VALID, UNMAP_ON_ERROR */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0, len;
    char *hint, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    hint = reserve(total_size, errp);
    if (!hint) {
        return false;
    }
    if (munmap(hint, total_size) < 0) {
        error_setg_errno(errp, errno, "cannot give the range back");
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        at = mmap(hint + done, len, PROT_READ, MAP_SHARED, source.fd,
                  source_offset(&source, iov[i].iov_base));
        if (at != hint + done) {
            error_setg(errp, "entry %u is not where it was wanted", i);
            if (at != MAP_FAILED) {
                munmap(at, len);
            }
            if (done > 0) {
                munmap(hint, done);
            }
            return false;
        }
        done += len;
    }
    *addr = hint;
    return true;
}
