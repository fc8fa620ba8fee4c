"""The Open Inference Protocol v2 in bytes: what clients of KServe, Triton and Seldon send and get.

    body > bulk (JSON) > request > tensors > (the service) > response > body

Pure: knows neither HTTP nor how an image is judged. Whatever the bytes, only errors of
`service.errors` come out, and what is allocated is a small multiple of what was sent.
"""
