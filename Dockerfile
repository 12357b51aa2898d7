# The program alone: no shell, no package manager, no other user than its own. `deploy/image` (task image) builds the
# binary and the folder that this is built from; nothing is pulled.
FROM scratch

ARG VERSION=devel
LABEL org.opencontainers.image.title="kafka-grpc" \
      org.opencontainers.image.description="Kafka topics call gRPC services, and gRPC clients call through Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

COPY kafka-grpc /kafka-grpc
# Of the user's own, so that a new volume on it is too.
COPY --chown=65532:65532 state /var/lib/kafka-grpc
VOLUME /var/lib/kafka-grpc

# nonroot. A number, because there is no /etc/passwd, and so that Kubernetes can see that it is not root.
USER 65532:65532
ENV KAFKA_GRPC_STATE_DIR=/var/lib/kafka-grpc
# Ready means that the partitions are recovered, which takes as long as the table is large.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["/kafka-grpc", "health"]
ENTRYPOINT ["/kafka-grpc"]
CMD ["run", "-c", "/etc/kafka-grpc/zilla.yaml"]
