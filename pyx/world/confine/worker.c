/*
 * A worker confines itself before it loads its subject, whose constructors run when it is loaded.
 *
 * Landlock says which files can be opened: the system's libraries and the subject's own, nothing else. A list of
 * system calls says what can be done at all: memory, descriptors, threads, time, and signals to oneself. Neither
 * needs privileges. What a kernel lacks is left out and told; the rest still holds.
 *
 * The constants are spelled out: the headers of a system may be older than its kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "confine/confine.h"
#include "confine/rules.h"

#define MAX_READABLE 64
#define MAX_CALLS 512
#define BLOCK 32
#define DATA_BYTES (16ull << 30)    /* of private writable mappings: twice the largest total, and room for threads */
#define CPU_SECONDS 3600            /* the parent ends a call far sooner; this is for when it cannot */
#define MAX_FILES 1024

static u64 parts;
static bool forks_are_overseen;
static int readable[MAX_READABLE];
static u64 n_readable;

void vv_confine_with(u64 chosen)
{
    parts = chosen;
}

int vv_confine_allow(const char *path)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
    }
    if (n_readable == MAX_READABLE) {
        close(fd);
        errno = E2BIG;
        return -1;
    }
    readable[n_readable++] = fd;
    return 0;
}

/* ---- limits ------------------------------------------------------------------------------------------ */

static void limit(int resource, u64 value)
{
    struct rlimit now, then;

    if (getrlimit(resource, &now) == 0) {
        then.rlim_max = value < now.rlim_max ? value : now.rlim_max;
        then.rlim_cur = value < now.rlim_cur ? value : now.rlim_cur;
        setrlimit(resource, &then);
    }
}

static u64 data_bytes(void)
{
    char line[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    unsigned long data = 0;

    if (fd >= 0) {
        (void)!read(fd, line, sizeof(line) - 1);
        close(fd);
        sscanf(line, "%*u %*u %*u %*u %*u %lu", &data);
    }
    return data * vv_page_size;
}

/* Where memory runs out in spite of all, the kernel is to end this process before any other. */
static void volunteer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, "1000", 4);
        close(fd);
    }
}

/* Root keeps only the capability to find and read a file: the subject may lie in the directory of another user. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data) == 0) {
        data[0].permitted = data[0].effective = data[0].permitted & (1u << CAP_DAC_READ_SEARCH);
        data[1].permitted = data[1].effective = 0;
        data[0].inheritable = data[1].inheritable = 0;
        syscall(SYS_capset, &header, data);
    }
}

static void set_limits(void)
{
    volunteer();
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, CPU_SECONDS);
    limit(RLIMIT_DATA, data_bytes() + DATA_BYTES);
    limit(RLIMIT_NOFILE, MAX_FILES);
    limit(RLIMIT_MSGQUEUE, 0);
    /* Not RLIMIT_FSIZE: it counts for the devices' memfds too, whose regions begin at huge offsets. No other
     * file can be written. Nor RLIMIT_NPROC: it counts all processes of a user. */
    drop_capabilities();
}

/* ---- Landlock ---------------------------------------------------------------------------------------- */

static int add_readable(int rules, int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return -1;
    }
    /* /dev/null and /dev/zero, too: nothing that is written there is kept. */
    return vv_landlock_allow(rules, fd, VV_FS_READ_FILE | VV_FS_READ_DIR
                                        | (S_ISCHR(status.st_mode) ? VV_FS_WRITE_FILE | VV_FS_TRUNCATE : 0));
}

static int add_paths(int rules)
{
    /* One file of /proc, where the C library looks for its stack. All else that the world reads there is open
     * already, or is opened for it (oversee.c): with a directory, all that the kernel tells of the machine could be
     * opened. */
    const int maps = open("/proc/self/maps", O_PATH | O_CLOEXEC);
    int failed = vv_landlock_allow(rules, maps, VV_FS_READ_FILE);
    u64 i;

    close(maps);
    for (i = 0; i < n_readable && failed == 0; i++) {
        failed = add_readable(rules, readable[i]);
    }
    return failed;
}

/* In a build for sanitizers: where they write what they find in this process, and where they read their options. */
static int add_reports(int rules)
{
#ifdef __SANITIZE_ADDRESS__
    const char *const directory = getenv("VFIO_VERIFY_SANITIZER_REPORTS");
    const int reports = directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    const int options = open("/proc/self/environ", O_PATH | O_CLOEXEC);
    const bool failed = vv_landlock_allow(rules, reports, VV_FS_MAKE_REG | VV_FS_WRITE_FILE | VV_FS_TRUNCATE) < 0
                        || vv_landlock_allow(rules, options, VV_FS_READ_FILE) < 0;

    close(reports);
    close(options);
    return failed ? -1 : 0;
#else
    (void)rules;
    return 0;
#endif
}

/* Landlock's version, or -1 with errno. */
static long restrict_files(void)
{
    long version;
    int rules;

    if (!(parts & VV_LANDLOCK)) {
        errno = ENOSYS;
        return -1;
    }
    version = vv_landlock_version();
    rules = version < 1 ? -1 : vv_landlock_begin(version);
    if (rules < 0 || vv_landlock_end(rules, add_paths(rules) < 0 || add_reports(rules) < 0) < 0) {
        return -1;
    }
    return version;
}

/* ---- seccomp ----------------------------------------------------------------------------------------- */

#if defined(__x86_64__) || (defined(__aarch64__) && defined(VV_ARCHITECTURE))

/* Newer than some headers. */
enum { CALL_CLONE3 = 435, CALL_CLOSE_RANGE = 436, CALL_OPENAT2 = 437, CALL_FACCESSAT2 = 439, CALL_EPOLL_PWAIT2 = 441,
       CALL_FUTEX_WAITV = 449 };
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#define PROCMAP_QUERY_COMMAND 0xc0686611u
#define VFIO_COMMAND(n) (0x3b00u | (n))     /* linux/vfio.h: _IO(';', n) */

#define THREAD (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)
#define THREAD_MAY (THREAD | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID \
                    | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)

/* Allowed with any arguments. */
static const short allowed[] = {
    SYS_mmap, SYS_munmap, SYS_pread64, SYS_pwrite64, SYS_dup, SYS_close, SYS_mprotect, SYS_recvfrom, SYS_recvmsg,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_getpid, SYS_futex, SYS_read, SYS_write,
    SYS_fallocate, SYS_lseek,
    /* memory */
    SYS_mremap, SYS_madvise, SYS_brk, SYS_msync, SYS_mincore, SYS_memfd_create, SYS_membarrier,
    /* descriptors */
    SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_dup3, CALL_CLOSE_RANGE, SYS_pipe2,
    SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_signalfd4, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_pwait, CALL_EPOLL_PWAIT2, SYS_ppoll, SYS_pselect6, SYS_ftruncate, SYS_fsync, SYS_fdatasync,
    SYS_fadvise64, SYS_readahead, SYS_getsockopt, SYS_getsockname, SYS_getpeername,
    /* files: Landlock says which can be opened */
    SYS_fstat, SYS_newfstatat, SYS_statx, SYS_faccessat, CALL_FACCESSAT2, SYS_readlinkat, SYS_getdents64, SYS_statfs,
    SYS_fstatfs, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_umask,
    /* threads and oneself */
    SYS_gettid, SYS_getppid, SYS_getpgid, SYS_getsid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups,
    SYS_getresuid, SYS_getresgid, SYS_set_tid_address, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq,
    CALL_FUTEX_WAITV, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_getcpu, SYS_exit, SYS_exit_group, SYS_wait4, SYS_waitid,
    SYS_getpriority, SYS_getrlimit, SYS_getrusage, SYS_times, SYS_uname, SYS_sysinfo, SYS_getrandom, SYS_seccomp,
    SYS_restart_syscall, SYS_capget,
    /* signals and time */
    SYS_sigaltstack, SYS_rt_sigpending, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_nanosleep, SYS_clock_nanosleep,
    SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_getitimer, SYS_setitimer, SYS_timer_create,
    SYS_timer_settime, SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete,
#ifdef __x86_64__
    SYS_dup2, SYS_pipe, SYS_eventfd, SYS_signalfd, SYS_epoll_create, SYS_epoll_wait, SYS_poll, SYS_select, SYS_stat,
    SYS_lstat, SYS_access, SYS_readlink, SYS_getdents, SYS_getpgrp, SYS_alarm, SYS_pause, SYS_time, SYS_arch_prctl,
#endif
};

static void allow_values(u64 call, unsigned argument, const unsigned *values, unsigned n, u64 otherwise)
{
    unsigned i;

    vv_filter_when(call, 2 + 2 * n);
    vv_filter_load(VV_ARGUMENT(argument));
    for (i = 0; i < n; i++) {
        vv_filter_allow(values[i]);
    }
    vv_filter_answer(otherwise);
}

#define ALLOW_VALUES(call, argument, otherwise, ...)                                                         \
    do {                                                                                                    \
        const unsigned values[] = {__VA_ARGS__};                                                            \
        allow_values(call, argument, values, sizeof(values) / sizeof(values[0]), otherwise);                \
    } while (0)

/* prlimit(): of this process alone, to look at a limit, or to change that of its address space. */
static void allow_limits(unsigned self)
{
    vv_filter_when(SYS_prlimit64, 13);
    vv_filter_load(VV_ARGUMENT(0));
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, self, 1, 0);
    vv_filter_answer(VV_FAIL(EPERM));
    vv_filter_load(VV_ARGUMENT(1));
    vv_filter_allow(RLIMIT_AS);
    vv_filter_load(VV_ARGUMENT(2));
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    vv_filter_load(VV_ARGUMENT(2) + 4);
    vv_filter_allow(0);
    vv_filter_answer(VV_FAIL(EPERM));
    ALLOW_VALUES(SYS_setrlimit, 0, VV_FAIL(EPERM), RLIMIT_AS);
}

/*
 * The list in blocks of 32 numbers. When a filter is installed the kernel walks it for every call there is, and
 * remembers which are allowed whatever their arguments: one long list takes a fifth of a millisecond for it.
 */
static void allow_listed(void)
{
    const size_t n = sizeof(allowed) / sizeof(allowed[0]);
    u64 block;
    size_t i;

    for (block = 0; block < MAX_CALLS; block += BLOCK) {
        const unsigned head = vv_filter_length();

        vv_filter_put(BPF_JMP | BPF_JGE | BPF_K, block + BLOCK, 0, 0);
        for (i = 0; i < n; i++) {
            if ((u64)allowed[i] >= block && (u64)allowed[i] < block + BLOCK) {
                vv_filter_allow((u64)allowed[i]);
            }
        }
        vv_filter_answer(VV_FAIL(EPERM));
        vv_filter_land(head);
    }
}

/* Without Landlock, or with one that knows no truncation, no file is opened to be changed. */
static void allow_open(u64 call, unsigned flags, bool writable)
{
    if (writable) {
        vv_filter_allow(call);
        return;
    }
    vv_filter_when(call, 4);
    vv_filter_load(VV_ARGUMENT(flags));
    vv_filter_put(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1);
    vv_filter_answer(VV_FAIL(EACCES));
    vv_filter_answer(SECCOMP_RET_ALLOW);
}

static void allow_threads(void)
{
    if (forks_are_overseen) {
        vv_filter_when(SYS_clone, 4);
        vv_filter_load(VV_ARGUMENT(0));
        vv_filter_allow(SIGCHLD);
        vv_filter_load(VV_WORD(nr));             /* and on, for threads */
    }
    vv_filter_when(SYS_clone, 6);
    vv_filter_load(VV_ARGUMENT(0));
    vv_filter_put(BPF_JMP | BPF_JSET | BPF_K, ~(u64)THREAD_MAY & 0xffffffff, 3, 0);
    vv_filter_put(BPF_ALU | BPF_AND | BPF_K, THREAD, 0, 0);
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, THREAD, 0, 1);
    vv_filter_answer(SECCOMP_RET_ALLOW);
    vv_filter_answer(VV_FAIL(EAGAIN));          /* as at the limit of processes */
    vv_filter_refuse(CALL_CLONE3, ENOSYS);      /* its flags lie in memory; the C library goes on with clone */
#ifdef __x86_64__
    vv_filter_refuse(SYS_fork, EAGAIN);
    vv_filter_refuse(SYS_vfork, EAGAIN);
#endif
}

static void allow_signals(unsigned self)
{
    /* To 0 is to the own process group, which holds this process alone. */
    ALLOW_VALUES(SYS_kill, 0, VV_FAIL(EPERM), self, 0);
    ALLOW_VALUES(SYS_tgkill, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_tkill, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_rt_sigqueueinfo, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_rt_tgsigqueueinfo, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_process_vm_readv, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_process_vm_writev, 0, VV_FAIL(EPERM), self);
    ALLOW_VALUES(SYS_sched_setaffinity, 0, VV_FAIL(EPERM), self, 0);
}

static void build_code(bool files_are_restricted)
{
    const unsigned self = (unsigned)getpid();

    vv_filter_begin();
    /* What is asked of anything but a descriptor's own state is answered as a memfd answers it. */
    ALLOW_VALUES(SYS_ioctl, 1, VV_FAIL(ENOTTY), PROCMAP_QUERY_COMMAND, TCGETS, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX,
                 VFIO_COMMAND(107), VFIO_COMMAND(108));
    vv_filter_when(SYS_fcntl, 2 + 2 * 5);
    vv_filter_load(VV_ARGUMENT(1));
    vv_filter_refuse(F_SETOWN, EPERM);          /* signals to others, and leases on their files */
    vv_filter_refuse(F_SETOWN_EX, EPERM);
    vv_filter_refuse(F_SETSIG, EPERM);
    vv_filter_refuse(F_SETLEASE, EPERM);
    vv_filter_refuse(F_NOTIFY, EPERM);
    vv_filter_answer(SECCOMP_RET_ALLOW);
    allow_open(SYS_openat, 2, files_are_restricted);
#ifdef __x86_64__
    allow_open(SYS_open, 1, files_are_restricted);
#endif
    vv_filter_refuse(CALL_OPENAT2, ENOSYS);
    /* A pair of sockets reaches only itself, as long as there is neither connect() nor an address to send to. */
    ALLOW_VALUES(SYS_socketpair, 0, VV_FAIL(EPERM), AF_UNIX);
    /* send() and sendto() without an address, on the socket to the parent. */
    vv_filter_when(SYS_sendto, 6);
    vv_filter_load(VV_ARGUMENT(4));
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    vv_filter_load(VV_ARGUMENT(4) + 4);
    vv_filter_allow(0);
    vv_filter_answer(VV_FAIL(EPERM));
    allow_threads();
    allow_signals(self);
    allow_limits(self);
    ALLOW_VALUES(SYS_prctl, 0, VV_FAIL(EPERM), PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_PDEATHSIG,
                 PR_SET_SECCOMP, PR_GET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_VMA);
    allow_listed();
    vv_filter_answer(VV_FAIL(EPERM));
}

/* 0, or -1 with errno. */
static int restrict_calls(bool files_are_restricted)
{
    build_code(files_are_restricted);
    return vv_filter_install(0);
}

#else

static int restrict_calls(bool files_are_restricted)
{
    (void)files_are_restricted;
    errno = EOPNOTSUPP;             /* the list is written for two architectures */
    return -1;
}

#endif

/* The parent is to answer. Before the list of calls, which has none to hand over a descriptor. */
static int oversee(int overseer)
{
    const int listener = parts & VV_SECCOMP ? vv_oversee_install() : -1;
    const int error = errno;
    const bool failed = vv_oversee_hand_over(overseer, listener) < 0 || listener < 0;

    if (listener >= 0) {
        close(listener);
    }
    vv_oversee_by(overseer);
    forks_are_overseen = !failed;
    errno = listener < 0 ? error : EPIPE;
    return failed ? -1 : 0;
}

int64_t vv_confine(int overseer)
{
    int64_t version, no_landlock = 0, no_seccomp = 0, no_forks = 0;
    u64 i;

    if (!parts) {
        vv_oversee_hand_over(overseer, -1);
        return 0;
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (parts & VV_LIMITS) {
        set_limits();
    }
    version = restrict_files();
    if (version < 0) {
        no_landlock = errno;
        version = 0;
    }
    for (i = 0; i < n_readable; i++) {
        close(readable[i]);
    }
    if (oversee(overseer) < 0) {
        no_forks = errno;
    }
    if (!(parts & VV_SECCOMP)) {
        no_seccomp = ENOSYS;
    } else if (restrict_calls(version >= VV_TRUNCATE_VERSION) < 0) {
        no_seccomp = errno;
    }
    return version | no_landlock << 16 | no_seccomp << 32 | no_forks << 48;
}
