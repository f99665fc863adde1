/* Stands in for the GPU library that the packaged Ollama 0.9.3 is linked against, and reports no device. Only what the
 * program imports is here; nothing of libc.
 */

int ggml_backend_sycl_get_device_count(void) { return 0; }

void *ggml_backend_sycl_init(int index) {
    (void)index;
    return 0;
}

void *ggml_backend_sycl_buffer_type(int index) {
    (void)index;
    return 0;
}
