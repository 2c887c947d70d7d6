# One static binary and nothing else. Build for one platform at a time, natively or emulated:
#   docker buildx build --platform linux/amd64,linux/arm64 -t clingfish.dev/clingfish:0.1.0 .
# Where no base image can be pulled, a folder with the binary stands in for the build stage:
#   buildah build --build-context build=FOLDER -t clingfish.dev/clingfish:0.1.0 .

FROM docker.io/library/rust:1.95-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
# musl is linked statically. Kernels of arm64 may have pages of 64 KiB, and jemalloc must be built for the largest.
RUN if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi; \
    cargo build --release --locked && strip -o /clingfish target/release/clingfish

FROM scratch
COPY --from=build --chmod=0755 /clingfish /clingfish
USER 65532:65532
ENTRYPOINT ["/clingfish"]
