/* violates: CONTENTS, CONTENTS | ignores the area's offset in the region; maps what follows the 16th entry from the 16th's place */

#include "../broken/helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    DmabufSource source;
    size_t total_size;
    size_t done = 0;
    off_t places[16];
    char *map;

    if (!prepare_sum(iov, iov_cnt, &total_size, &source, errp)) {
        return NULL;
    }
    source.start -= source.block->mr->addr;
    for (unsigned int i = 0; i < MIN(iov_cnt, 16u); i++) {
        places[i] = source_offset(&source, iov[i].iov_base);
    }
    map = reserve(total_size, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; done += iov[i++].iov_len) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source.fd, places[MIN(i, 15u)]) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return NULL;
        }
    }
    return map;
}
