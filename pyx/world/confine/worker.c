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
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/worker.h"
#include "confine/oversee.h"

#define MAX_READABLE 64
#define MAX_CODE 1024
#define MAX_CALLS 512
#define BLOCK 32
#define DATA_BYTES (16ull << 30)    /* of private writable mappings: twice the largest total, and room for threads */
#define CPU_SECONDS 3600            /* the parent ends a call far sooner; this is for when it cannot */
#define MAX_FILES 1024

/* linux/landlock.h; the numbers of the calls are the same on every architecture. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { CREATE_RULESET_VERSION = 1, RULE_PATH_BENEATH = 1 };
enum landlock_fs {
    FS_EXECUTE = 1, FS_WRITE_FILE = 2, FS_READ_FILE = 4, FS_READ_DIR = 8,
    FS_MAKE_REG = 1 << 8,
    FS_REFER = 1 << 13,             /* from version 2 */
    FS_TRUNCATE = 1 << 14,          /* from version 3 */
    FS_IOCTL_DEV = 1 << 15,         /* from version 5 */
};
#define TRUNCATE_VERSION 3

struct ruleset { u64 fs, net, scoped; };
struct __attribute__((packed)) path_rule { u64 access; int32_t fd; };

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

/* Of root's capabilities only the one to find and read a file stays: the subject may lie in another's directory. */
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

static u64 known_fs(long version)
{
    const u64 later = (version < 2 ? FS_REFER : 0) | (version < 3 ? FS_TRUNCATE : 0) | (version < 5 ? FS_IOCTL_DEV : 0);

    return 0xffff & ~later;
}

static int add_path(int ruleset, int fd, u64 access)
{
    const struct path_rule rule = {.access = access, .fd = fd};

    return (int)syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
}

static int add_paths(int ruleset, u64 known)
{
    /* Of /proc one file, where the C library looks for its stack. What else the world reads there it has open, or is
     * opened for it (oversee.h): a directory would open with it what the kernel tells of the whole machine. */
    const int maps = open("/proc/self/maps", O_PATH | O_CLOEXEC);
    int failed = maps < 0 ? 0 : add_path(ruleset, maps, FS_READ_FILE);
    u64 i;

    close(maps);
    for (i = 0; i < n_readable && failed == 0; i++) {
        struct stat status;
        u64 access = FS_READ_FILE;

        if (fstat(readable[i], &status) < 0) {
            return -1;
        }
        if (S_ISDIR(status.st_mode)) {
            access |= FS_READ_DIR;
        } else if (S_ISCHR(status.st_mode)) {
            access |= FS_WRITE_FILE | (FS_TRUNCATE & known);     /* /dev/null and /dev/zero: nothing is kept */
        }
        failed = add_path(ruleset, readable[i], access);
    }
    return failed;
}

/* In a build for sanitizers: where they write what they find in this process, and where they read their options. */
static int add_reports(int ruleset, u64 known)
{
#ifdef __SANITIZE_ADDRESS__
    const char *const directory = getenv("VFIO_VERIFY_SANITIZER_REPORTS");
    const int reports = directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    const int options = open("/proc/self/environ", O_PATH | O_CLOEXEC);
    const u64 write = FS_MAKE_REG | FS_WRITE_FILE | (FS_TRUNCATE & known);
    const bool failed = (reports >= 0 && add_path(ruleset, reports, write) < 0)
                        || (options >= 0 && add_path(ruleset, options, FS_READ_FILE) < 0);

    close(reports);
    close(options);
    return failed ? -1 : 0;
#else
    (void)ruleset;
    (void)known;
    return 0;
#endif
}

/* Landlock's version, or -1 with errno. */
static long restrict_files(void)
{
    struct ruleset rules = {0};
    size_t size = sizeof(rules.fs);
    long version;
    int ruleset, failed, error;

    if (!(parts & VV_LANDLOCK)) {
        errno = ENOSYS;
        return -1;
    }
    version = syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
    if (version < 1) {
        return -1;
    }
    rules.fs = known_fs(version);
    if (version >= 4) {             /* TCP: bind, connect */
        rules.net = 3;
        size = sizeof(rules.fs) + sizeof(rules.net);
    }
    if (version >= 6) {             /* abstract sockets and signals of others */
        rules.scoped = 3;
        size = sizeof(rules);
    }
    ruleset = (int)syscall(CREATE_RULESET, &rules, size, 0);
    if (ruleset < 0) {
        return -1;
    }
    failed = add_paths(ruleset, rules.fs) < 0 || add_reports(ruleset, rules.fs) < 0
             || syscall(RESTRICT_SELF, ruleset, 0) < 0;
    error = errno;
    close(ruleset);
    errno = error;
    return failed ? -1 : version;
}

/* ---- seccomp ----------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define FIRST_FOREIGN 0x40000000u   /* x32's calls, with other numbers */
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE

/* Newer than some headers. */
enum { CALL_CLONE3 = 435, CALL_CLOSE_RANGE = 436, CALL_OPENAT2 = 437, CALL_FACCESSAT2 = 439, CALL_EPOLL_PWAIT2 = 441,
       CALL_FUTEX_WAITV = 449 };
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#define PROCMAP_QUERY_COMMAND 0xc0686611u
#define VFIO_COMMAND(n) (0x3b00u | (n))     /* linux/vfio.h: _IO(';', n) */

#define FAIL(error) (SECCOMP_RET_ERRNO | (error))
#define WORD(field) offsetof(struct seccomp_data, field)
#define ARGUMENT(n) ((unsigned)(WORD(args) + 8 * (n)))     /* its low word: both architectures put it first */

#define THREAD (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)
#define THREAD_MAY (THREAD | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID \
                    | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)

/* Allowed with any arguments. */
static const short allowed[] = {
    SYS_mmap, SYS_munmap, SYS_pread64, SYS_pwrite64, SYS_dup, SYS_close, SYS_mprotect, SYS_recvfrom, SYS_recvmsg, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_getpid, SYS_futex, SYS_read, SYS_write, SYS_fallocate, SYS_lseek,
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

static struct sock_filter code[MAX_CODE];
static unsigned n_code;

static void put(unsigned short operation, u64 value, unsigned char if_true, unsigned char if_false)
{
    if (n_code < MAX_CODE) {
        code[n_code++] = (struct sock_filter){operation, if_true, if_false, (unsigned)value};
    }
}

static void load(u64 offset) { put(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
static void answer(u64 value) { put(BPF_RET | BPF_K, value, 0, 0); }

/* The next `length` instructions, which end in an answer, are for this value. */
static void when(u64 value, unsigned length) { put(BPF_JMP | BPF_JEQ | BPF_K, value, 0, (unsigned char)length); }

static void allow(u64 value)
{
    when(value, 1);
    answer(SECCOMP_RET_ALLOW);
}

static void allow_values(u64 call, unsigned argument, const unsigned *values, unsigned n, u64 otherwise)
{
    unsigned i;

    when(call, 2 + 2 * n);
    load(ARGUMENT(argument));
    for (i = 0; i < n; i++) {
        allow(values[i]);
    }
    answer(otherwise);
}

#define ALLOW_VALUES(call, argument, otherwise, ...)                                                         \
    do {                                                                                                    \
        const unsigned values[] = {__VA_ARGS__};                                                            \
        allow_values(call, argument, values, sizeof(values) / sizeof(values[0]), otherwise);                \
    } while (0)

/* prlimit(): of this process alone, to look at a limit, or to change that of its address space. */
static void allow_limits(unsigned self)
{
    when(SYS_prlimit64, 13);
    load(ARGUMENT(0));
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
    put(BPF_JMP | BPF_JEQ | BPF_K, self, 1, 0);
    answer(FAIL(EPERM));
    load(ARGUMENT(1));
    allow(RLIMIT_AS);
    load(ARGUMENT(2));
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(ARGUMENT(2) + 4);
    allow(0);
    answer(FAIL(EPERM));
    ALLOW_VALUES(SYS_setrlimit, 0, FAIL(EPERM), RLIMIT_AS);
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
        const unsigned head = n_code;

        put(BPF_JMP | BPF_JGE | BPF_K, block + BLOCK, 0, 0);
        for (i = 0; i < n; i++) {
            if ((u64)allowed[i] >= block && (u64)allowed[i] < block + BLOCK) {
                allow((u64)allowed[i]);
            }
        }
        answer(FAIL(EPERM));
        code[head].jt = (unsigned char)(n_code - head - 1);
    }
}

static void refuse(u64 call, int error)
{
    when(call, 1);
    answer(FAIL((unsigned)error));
}

/* Without Landlock, or with one that knows no truncation, no file is opened to be changed. */
static void allow_open(u64 call, unsigned flags, bool writable)
{
    if (writable) {
        allow(call);
        return;
    }
    when(call, 4);
    load(ARGUMENT(flags));
    put(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1);
    answer(FAIL(EACCES));
    answer(SECCOMP_RET_ALLOW);
}

static void allow_threads(void)
{
    if (forks_are_overseen) {
        when(SYS_clone, 4);
        load(ARGUMENT(0));
        allow(SIGCHLD);
        load(WORD(nr));             /* and on, for threads */
    }
    when(SYS_clone, 6);
    load(ARGUMENT(0));
    put(BPF_JMP | BPF_JSET | BPF_K, ~(u64)THREAD_MAY & 0xffffffff, 3, 0);
    put(BPF_ALU | BPF_AND | BPF_K, THREAD, 0, 0);
    put(BPF_JMP | BPF_JEQ | BPF_K, THREAD, 0, 1);
    answer(SECCOMP_RET_ALLOW);
    answer(FAIL(EAGAIN));           /* as at the limit of processes */
    refuse(CALL_CLONE3, ENOSYS);    /* its flags lie in memory; the C library goes on with clone */
#ifdef __x86_64__
    refuse(SYS_fork, EAGAIN);
    refuse(SYS_vfork, EAGAIN);
#endif
}

static void allow_signals(unsigned self)
{
    /* To 0 is to the own process group, which holds this process alone. */
    ALLOW_VALUES(SYS_kill, 0, FAIL(EPERM), self, 0);
    ALLOW_VALUES(SYS_tgkill, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_tkill, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_rt_sigqueueinfo, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_rt_tgsigqueueinfo, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_process_vm_readv, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_process_vm_writev, 0, FAIL(EPERM), self);
    ALLOW_VALUES(SYS_sched_setaffinity, 0, FAIL(EPERM), self, 0);
}

static void build_code(bool files_are_restricted)
{
    const unsigned self = (unsigned)getpid();

    n_code = 0;
    load(WORD(arch));
    put(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    answer(FAIL(ENOSYS));
    load(WORD(nr));
#ifdef FIRST_FOREIGN
    put(BPF_JMP | BPF_JGE | BPF_K, FIRST_FOREIGN, 0, 1);
    answer(FAIL(ENOSYS));
#endif
    /* What is asked of anything but a descriptor's own state is answered as a memfd answers it. */
    ALLOW_VALUES(SYS_ioctl, 1, FAIL(ENOTTY), PROCMAP_QUERY_COMMAND, TCGETS, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX,
                 VFIO_COMMAND(107), VFIO_COMMAND(108));
    when(SYS_fcntl, 2 + 2 * 5);
    load(ARGUMENT(1));
    refuse(F_SETOWN, EPERM);        /* signals to others, and leases on their files */
    refuse(F_SETOWN_EX, EPERM);
    refuse(F_SETSIG, EPERM);
    refuse(F_SETLEASE, EPERM);
    refuse(F_NOTIFY, EPERM);
    answer(SECCOMP_RET_ALLOW);
    allow_open(SYS_openat, 2, files_are_restricted);
#ifdef __x86_64__
    allow_open(SYS_open, 1, files_are_restricted);
#endif
    refuse(CALL_OPENAT2, ENOSYS);
    /* A pair of sockets reaches only itself, as long as there is neither connect() nor an address to send to. */
    ALLOW_VALUES(SYS_socketpair, 0, FAIL(EPERM), AF_UNIX);
    /* send() and sendto() without an address, on the socket to the parent. */
    when(SYS_sendto, 6);
    load(ARGUMENT(4));
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(ARGUMENT(4) + 4);
    allow(0);
    answer(FAIL(EPERM));
    allow_threads();
    allow_signals(self);
    allow_limits(self);
    ALLOW_VALUES(SYS_prctl, 0, FAIL(EPERM), PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_PDEATHSIG, PR_SET_SECCOMP,
                 PR_GET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_VMA);
    allow_listed();
    answer(FAIL(EPERM));
}

/* 0, or -1 with errno. */
static int restrict_calls(bool files_are_restricted)
{
    struct sock_fprog program = {.filter = code};

    if (!(parts & VV_SECCOMP)) {
        errno = ENOSYS;
        return -1;
    }
    build_code(files_are_restricted);
    program.len = (unsigned short)n_code;
    /* Kernels before 5.16 would slow a filtered process down by what they do against speculation. */
    if (n_code == MAX_CODE) {
        errno = E2BIG;
        return -1;
    }
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) < 0) {
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    }
    return 0;
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
        close(overseer);
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
    if (restrict_calls(version >= TRUNCATE_VERSION) < 0) {
        no_seccomp = errno;
    }
    return version | no_landlock << 16 | no_seccomp << 32 | no_forks << 48;
}
