/* Stands in for libnvidia-ml.so.1, the NVIDIA driver's library, so that the real Python binding runs on machines that
 * have no GPU. What it answers lies in a file (FAKE_NVML_STATE) that both sides map: a test changes it while a daemon
 * in another process reads it. Without that file it answers as a driver whose kernel module is not loaded.
 *
 * `struct state` is mirrored in fake_nvml.py, which writes its own idea of the size into the file.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x4c4d564e, MAX_GPUS = 16, MAX_PROCESSES = 32, MAX_EVENTS = 256, MAX_SETS = 8, TEXT = 96 };

/* nvmlReturn_t, as far as this library itself says them; a fault may be any other value. */
enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    NOT_SUPPORTED = 3,
    DRIVER_NOT_LOADED = 9,
    TIMED_OUT = 10,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

/* A fault that is no nvmlReturn_t: the call does not return until the fault is another. */
enum { HANG = -1 };

enum driver_call { INIT, DRIVER_VERSION, COUNT, EVENT_SET, EVENT_WAIT, DRIVER_CALLS };

enum gpu_call {
    OPEN_BY_INDEX,
    OPEN_BY_UUID,
    INDEX,
    UUID,
    NAME,
    MEMORY,
    UTILIZATION,
    TEMPERATURE,
    PROCESSES,
    GRAPHICS_PROCESSES,
    POWER,
    CLOCK_REASONS,
    ECC,
    REGISTER_EVENTS,
    GPU_CALLS
};

/* nvmlProcessInfo_v2_t, which is also version 3. */
struct process {
    uint32_t pid;
    uint64_t used_bytes;
    uint32_t gpu_instance;
    uint32_t compute_instance;
};

struct gpu {
    char uuid[TEXT];
    char name[TEXT];
    uint64_t total_bytes;
    uint64_t used_bytes;
    uint64_t reserved_bytes;
    uint32_t utilization_percent;
    uint32_t temperature_c;
    uint32_t lost;       /* every call on it answers GPU_IS_LOST */
    uint32_t gone;       /* the same, and the next first start does not list it */
    uint32_t old_driver; /* before 510: lacks the newer version of each call that has two */
    uint32_t power_mw;
    uint64_t clock_reasons;
    uint64_t ecc_uncorrected;
    int32_t faults[GPU_CALLS];
    uint32_t process_count;
    struct process processes[MAX_PROCESSES];
    uint32_t graphics_count;
    struct process graphics[MAX_PROCESSES];
};

/* Something that the driver reports by itself. */
struct event {
    uint32_t gpu;
    uint64_t type;
    uint64_t data;
};

struct state {
    uint32_t magic;
    uint32_t size;
    char driver_version[TEXT];
    int32_t faults[DRIVER_CALLS];
    uint32_t gpu_count;
    struct gpu gpus[MAX_GPUS];
    uint32_t event_count; /* in all; each is at its number, modulo MAX_EVENTS */
    struct event events[MAX_EVENTS];
};

static struct state *state;
static unsigned starts; /* nvmlInit less nvmlShutdown */
static unsigned listed; /* GPUs that were there at the first start: as NVML does, one that comes later is not seen */
static struct gpu *at_index[MAX_GPUS]; /* those, by NVML's index: behind a GPU that is gone the others move up */

/* Hears of what its GPUs report from the moment on that each is registered, in order. Ends with the last nvmlShutdown. */
struct event_set {
    unsigned used;
    uint32_t next; /* the number of the event to look at next */
    unsigned long long kinds[MAX_GPUS];
    uint32_t since[MAX_GPUS];
};

static struct event_set sets[MAX_SETS];

static int load(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    struct stat found;
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return DRIVER_NOT_LOADED;
    if (fstat(file, &found) == 0 && (size_t)found.st_size == sizeof *state) {
        void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            state = mapped;
    }
    close(file);
    if (state == NULL || state->magic != MAGIC || state->size != sizeof *state) {
        fprintf(stderr, "fake_nvml: %s is no state of %zu bytes: fake_nvml.py and .c differ\n", path, sizeof *state);
        abort();
    }
    return SUCCESS;
}

/* The code that this call is to answer with; while that is HANG, it does not return. */
static int faulty(const int32_t *fault) {
    const struct timespec a_moment = {.tv_nsec = 2000000};
    int code;
    while ((code = __atomic_load_n(fault, __ATOMIC_ACQUIRE)) == HANG)
        nanosleep(&a_moment, NULL);
    return code;
}

static int driver_call(enum driver_call call) {
    return starts == 0 ? UNINITIALIZED : faulty(&state->faults[call]);
}

static int gpu_call(const struct gpu *gpu, enum gpu_call call) {
    if (starts == 0)
        return UNINITIALIZED;
    if (gpu < state->gpus || gpu >= state->gpus + MAX_GPUS)
        return INVALID_ARGUMENT;
    int code = faulty(&gpu->faults[call]);
    return gpu->lost || gpu->gone ? GPU_IS_LOST : code;
}

static int copy(char *to, unsigned room, const char *from) {
    size_t length = strnlen(from, TEXT);
    if (length >= room)
        return INSUFFICIENT_SIZE;
    memcpy(to, from, length);
    to[length] = '\0';
    return SUCCESS;
}

static void list_gpus(void) {
    listed = 0;
    for (unsigned place = 0; place < state->gpu_count; place++)
        if (!state->gpus[place].gone)
            at_index[listed++] = &state->gpus[place];
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = state == NULL ? load() : SUCCESS;
    if (code == SUCCESS)
        code = faulty(&state->faults[INIT]);
    if (code == SUCCESS && starts++ == 0)
        list_gpus();
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (starts == 0)
        return UNINITIALIZED;
    if (--starts == 0)
        memset(sets, 0, sizeof sets);
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code; /* the binding has a text of its own for each code that has a meaning here */
    return "an error of the fake driver";
}

int nvmlSystemGetDriverVersion(char *version, unsigned room) {
    int code = driver_call(DRIVER_VERSION);
    return code ? code : copy(version, room, state->driver_version);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = driver_call(COUNT);
    if (code == SUCCESS)
        *count = listed;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **handle) {
    if (starts == 0)
        return UNINITIALIZED;
    if (index >= listed)
        return INVALID_ARGUMENT;
    *handle = at_index[index];
    return gpu_call(*handle, OPEN_BY_INDEX);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **handle) {
    if (starts == 0)
        return UNINITIALIZED;
    for (unsigned index = 0; index < listed; index++) {
        *handle = at_index[index];
        if (strncasecmp((*handle)->uuid, uuid, TEXT) == 0)
            return gpu_call(*handle, OPEN_BY_UUID);
    }
    return NOT_FOUND;
}

int nvmlDeviceGetIndex(const struct gpu *gpu, unsigned *index) {
    int code = gpu_call(gpu, INDEX);
    for (unsigned place = 0; code == SUCCESS && place < listed; place++)
        if (at_index[place] == gpu)
            *index = place;
    return code;
}

int nvmlDeviceGetUUID(const struct gpu *gpu, char *uuid, unsigned room) {
    int code = gpu_call(gpu, UUID);
    return code ? code : copy(uuid, room, gpu->uuid);
}

int nvmlDeviceGetName(const struct gpu *gpu, char *name, unsigned room) {
    int code = gpu_call(gpu, NAME);
    return code ? code : copy(name, room, gpu->name);
}

struct memory {
    uint64_t total, free, used;
};

struct memory_v2 {
    uint32_t version;
    uint64_t total, reserved, free, used;
};

/* Version 1 counts the driver's reserve as used. */
int nvmlDeviceGetMemoryInfo(const struct gpu *gpu, struct memory *memory) {
    int code = gpu_call(gpu, MEMORY);
    if (code)
        return code;
    memory->total = gpu->total_bytes;
    memory->used = gpu->used_bytes + gpu->reserved_bytes;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(const struct gpu *gpu, struct memory_v2 *memory) {
    int code = gpu_call(gpu, MEMORY);
    if (code)
        return code;
    if (gpu->old_driver)
        return FUNCTION_NOT_FOUND;
    if (memory->version != (sizeof *memory | 2u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    memory->total = gpu->total_bytes;
    memory->reserved = gpu->reserved_bytes;
    memory->used = gpu->used_bytes;
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

struct utilization {
    unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(const struct gpu *gpu, struct utilization *utilization) {
    int code = gpu_call(gpu, UTILIZATION);
    if (code)
        return code;
    utilization->gpu = gpu->utilization_percent;
    utilization->memory = gpu->utilization_percent;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(const struct gpu *gpu, int sensor, unsigned *celsius) {
    int code = gpu_call(gpu, TEMPERATURE);
    if (code)
        return code;
    if (sensor != 0)
        return INVALID_ARGUMENT;
    *celsius = gpu->temperature_c;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(const struct gpu *gpu, unsigned *milliwatts) {
    int code = gpu_call(gpu, POWER);
    if (code == SUCCESS)
        *milliwatts = gpu->power_mw;
    return code;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(const struct gpu *gpu, unsigned long long *reasons) {
    int code = gpu_call(gpu, CLOCK_REASONS);
    if (code == SUCCESS)
        *reasons = gpu->clock_reasons;
    return code;
}

int nvmlDeviceGetCurrentClocksEventReasons(const struct gpu *gpu, unsigned long long *reasons) {
    int code = gpu_call(gpu, CLOCK_REASONS);
    return code == SUCCESS && gpu->old_driver ? FUNCTION_NOT_FOUND
                                              : nvmlDeviceGetCurrentClocksThrottleReasons(gpu, reasons);
}

/* Kind 1 is uncorrected, counter 0 volatile. */
int nvmlDeviceGetTotalEccErrors(const struct gpu *gpu, int kind, int counter, unsigned long long *count) {
    int code = gpu_call(gpu, ECC);
    if (code)
        return code;
    if (kind != 1 || counter != 0)
        return NOT_SUPPORTED;
    *count = gpu->ecc_uncorrected;
    return SUCCESS;
}

/* `count` is the room in `to` on the way in, and how many there are on the way out. */
static int list_processes(const struct process *from, uint32_t there, unsigned *count, struct process *to) {
    unsigned room = *count;
    *count = there < MAX_PROCESSES ? there : MAX_PROCESSES;
    if (*count > room)
        return INSUFFICIENT_SIZE;
    if (*count > 0)
        memcpy(to, from, *count * sizeof *to);
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(const struct gpu *gpu, unsigned *count, struct process *to) {
    int code = gpu_call(gpu, PROCESSES);
    return code ? code : list_processes(gpu->processes, gpu->process_count, count, to);
}

int nvmlDeviceGetComputeRunningProcesses_v3(const struct gpu *gpu, unsigned *count, struct process *to) {
    int code = gpu_call(gpu, PROCESSES);
    if (code == SUCCESS && gpu->old_driver)
        return FUNCTION_NOT_FOUND;
    return code ? code : list_processes(gpu->processes, gpu->process_count, count, to);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(const struct gpu *gpu, unsigned *count, struct process *to) {
    int code = gpu_call(gpu, GRAPHICS_PROCESSES);
    return code ? code : list_processes(gpu->graphics, gpu->graphics_count, count, to);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(const struct gpu *gpu, unsigned *count, struct process *to) {
    int code = gpu_call(gpu, GRAPHICS_PROCESSES);
    if (code == SUCCESS && gpu->old_driver)
        return FUNCTION_NOT_FOUND;
    return code ? code : list_processes(gpu->graphics, gpu->graphics_count, count, to);
}

struct event_data {
    struct gpu *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

int nvmlEventSetCreate(struct event_set **set) {
    int code = driver_call(EVENT_SET);
    for (unsigned place = 0; code == SUCCESS && place < MAX_SETS; place++)
        if (!sets[place].used) {
            sets[place] = (struct event_set){.used = 1, .next = state->event_count};
            *set = &sets[place];
            return SUCCESS;
        }
    return code ? code : INSUFFICIENT_SIZE;
}

int nvmlEventSetFree(struct event_set *set) {
    if (starts == 0)
        return UNINITIALIZED;
    if (!set->used)
        return INVALID_ARGUMENT;
    set->used = 0;
    return SUCCESS;
}

int nvmlDeviceGetSupportedEventTypes(const struct gpu *gpu, unsigned long long *types) {
    int code = gpu_call(gpu, REGISTER_EVENTS);
    if (code == SUCCESS)
        *types = 0x1 | 0x2 | 0x8; /* corrected and uncorrected memory errors, Xids */
    return code;
}

int nvmlDeviceRegisterEvents(const struct gpu *gpu, unsigned long long types, struct event_set *set) {
    int code = gpu_call(gpu, REGISTER_EVENTS);
    if (code)
        return code;
    set->kinds[gpu - state->gpus] |= types;
    set->since[gpu - state->gpus] = state->event_count;
    return SUCCESS;
}

/* Does not wait: nobody here asks it to. */
int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned timeout_ms) {
    int code = driver_call(EVENT_WAIT);
    if (code || timeout_ms > 0 || !set->used)
        return code ? code : INVALID_ARGUMENT;
    const uint32_t end = __atomic_load_n(&state->event_count, __ATOMIC_ACQUIRE);
    if (end - set->next > MAX_EVENTS)
        set->next = end - MAX_EVENTS;
    while (set->next != end) {
        const uint32_t number = set->next++;
        const struct event *event = &state->events[number % MAX_EVENTS];
        if (number >= set->since[event->gpu] && set->kinds[event->gpu] & event->type) {
            *data = (struct event_data){&state->gpus[event->gpu], event->type, event->data, -1u, -1u};
            return SUCCESS;
        }
    }
    return TIMED_OUT;
}
