/* Stands in for the GPU plugin that the packaged Ollama is linked against. It reports no device, so that Ollama serves
 * from the CPU, and needs none of the GPU runtime (gigabytes) that the real plugin would load.
 *
 * Only what Ollama's libraries import is here. It calls nothing of libc, so that it links without libc's headers.
 */

#include <stddef.h>

/* A GGML backend registration, as GGML's API version 1 lays it out. */
struct registration {
    int api_version;
    const char *(*name)(struct registration *);
    size_t (*device_count)(struct registration *);
    void *(*device)(struct registration *, size_t index);
    void *(*procedure)(struct registration *, const char *name);
    void *context;
};

static const char *name(struct registration *self) {
    (void)self;
    return "SYCL";
}

static size_t device_count(struct registration *self) {
    (void)self;
    return 0;
}

static void *device(struct registration *self, size_t index) {
    (void)self;
    (void)index;
    return NULL;
}

static void *procedure(struct registration *self, const char *wanted) {
    (void)self;
    (void)wanted;
    return NULL;
}

void *ggml_backend_sycl_reg(void) {
    static struct registration none = {1, name, device_count, device, procedure, NULL};
    return &none;
}

void *ggml_backend_sycl_init(int index) {
    (void)index;
    return NULL;
}

void ggml_backend_sycl_get_device_name(int index, char *into, size_t size) {
    (void)index;
    if (size > 0) {
        into[0] = '\0';
    }
}

/* `ggml_format_convert_to_xpu(void const *, void *, unsigned long, int)`, by its C++ name: nothing was converted. */
int _Z26ggml_format_convert_to_xpuPKvPvmi(const void *from, void *to, unsigned long size, int type) {
    (void)from;
    (void)to;
    (void)size;
    (void)type;
    return 0;
}
