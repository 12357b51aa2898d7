import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Does the job of kafka-grpc for unary calls as one would write it with Kafka Streams: it is what the program's exactly-once mode is
 * measured against. It reads requests, looks up the key in a persistent store with a changelog, calls the service if the key has no
 * result, puts the result into the store, and writes the message and the end of the reply. Results, replies and offsets are in one
 * transaction (exactly_once_v2).
 *
 * <p>What it cannot: Kafka Streams handles the records of a partition one by one, and commits the offset of each record that process()
 * has returned from. A call must therefore have ended by then, and a partition has one call at a time; there are as many calls at
 * once as there are partitions, if there are as many threads. Nor does it have what else the program has: the record key must be the
 * correlation id, as that of the server in front is; there are no streams, no retries but for a service that cannot be reached yet, no
 * dead letters, traces or metrics, and results that have expired are passed over, not removed.
 *
 * <p>Arguments are name=value: requests and replies (topics), target (host:port of the service); all others are settings of Kafka
 * Streams, such as bootstrap.servers, application.id, state.dir, num.stream.threads (default 8) and commit.interval.ms (default 100).
 * It prints "ready" when all threads have their partitions, and ends in order, with 0, on SIGTERM.
 */
public final class Streams {
    private static final String STORE = "results";
    private static final Duration CALL_TIMEOUT = Duration.ofSeconds(30);
    private static final Duration EXPIRY = Duration.ofHours(24);
    private static final Duration STOP_TIMEOUT = Duration.ofSeconds(30);

    public static void main(String[] args) throws InterruptedException {
        Properties settings = new Properties();
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "8");
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        for (String arg : args) {
            String[] parts = arg.split("=", 2);
            if (parts.length != 2) {
                throw new IllegalArgumentException(arg + " is not name=value");
            }
            settings.put(parts[0], parts[1]);
        }
        String requests = own(settings, "requests");
        String replies = own(settings, "replies");
        String target = own(settings, "target");
        // A thread with nothing to do waits for records first and commits then.
        settings.putIfAbsent(StreamsConfig.POLL_MS_CONFIG, settings.get(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG));

        ManagedChannel channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build();
        Topology topology = new Topology();
        topology.addSource("requests", new ByteArrayDeserializer(), new ByteArrayDeserializer(), requests);
        topology.addProcessor("calls", () -> new Calls(channel), "requests");
        // Persistent, with a changelog, by default; not cached, as no row is written twice.
        topology.addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray()), "calls");
        topology.addSink("replies", replies, new ByteArraySerializer(), new ByteArraySerializer(), "calls");

        KafkaStreams streams = new KafkaStreams(topology, settings);
        AtomicBoolean ready = new AtomicBoolean();
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING && ready.compareAndSet(false, true)) {
                System.out.println("ready");
            } else if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        streams.setUncaughtExceptionHandler(problem -> {
            problem.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            boolean ended = streams.close(STOP_TIMEOUT);
            channel.shutdownNow();
            Runtime.getRuntime().halt(ended ? 0 : 1); // else it would be that of the signal
        }));
        streams.start();
        Thread.currentThread().join();
    }

    /** Takes a setting that is not one of Kafka Streams. */
    private static String own(Properties settings, String name) {
        Object value = settings.remove(name);
        if (value == null) {
            throw new IllegalArgumentException(name + "=... is missing");
        }
        return (String) value;
    }

    /** Answers the requests of one partition. */
    private static final class Calls implements Processor<byte[], byte[], byte[], byte[]> {
        private final Channel channel;
        private final Map<String, MethodDescriptor<byte[], byte[]>> methods = new HashMap<>();
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> results;

        Calls(Channel channel) {
            this.channel = channel;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            results = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> request) {
            if (request.value() == null) {
                return; // the caller's half-close: a unary call is whole before
            }
            byte[] id = required(request.headers(), "zilla:correlation-id");
            String method = text(required(request.headers(), "zilla:service")) + "/" + text(required(request.headers(), "zilla:method"));
            byte[] fingerprint = fingerprint("/" + method, request.value());
            byte[] stored = results.get(id);
            Result result = stored == null ? null : Result.decode(stored);
            if (result == null || result.expires < context.currentSystemTimeMs()) {
                result = call(method, request, fingerprint);
                // Of the others, the next request is executed.
                if (result.status != Status.Code.UNAVAILABLE.value() && result.status != Status.Code.DEADLINE_EXCEEDED.value()) {
                    results.put(id, result.encode());
                }
            } else if (!MessageDigest.isEqual(result.fingerprint, fingerprint)) {
                result = Result.failed(fingerprint, Status.FAILED_PRECONDITION.withDescription("the key was used for another request"));
            }
            reply(id, request.headers().lastHeader("grpc:call"), result);
        }

        private Result call(String name, Record<byte[], byte[]> request, byte[] fingerprint) {
            long timeout = CALL_TIMEOUT.toMillis();
            Header deadline = request.headers().lastHeader("grpc:deadline");
            if (deadline != null) {
                timeout = Math.min(timeout, Long.parseLong(text(deadline.value())) - context.currentSystemTimeMs());
            }
            if (timeout <= 0) {
                return Result.failed(fingerprint, Status.DEADLINE_EXCEEDED);
            }
            AtomicReference<Metadata> metadata = new AtomicReference<>();
            AtomicReference<Metadata> trailers = new AtomicReference<>();
            Channel calling = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata(request.headers())),
                MetadataUtils.newCaptureMetadataInterceptor(metadata, trailers));
            byte[] message = null;
            Status status = Status.OK;
            try {
                message = ClientCalls.blockingUnaryCall(calling, methods.computeIfAbsent(name, Calls::method),
                    CallOptions.DEFAULT.withWaitForReady().withDeadlineAfter(timeout, TimeUnit.MILLISECONDS), request.value());
            } catch (StatusRuntimeException e) {
                status = e.getStatus();
            }
            return new Result(context.currentSystemTimeMs() + EXPIRY.toMillis(), fingerprint, status.getCode().value(),
                status.getDescription() == null ? "" : status.getDescription(), entries(metadata.get()), message, entries(trailers.get()));
        }

        private void reply(byte[] id, Header call, Result result) {
            boolean ok = result.status == Status.Code.OK.value();
            long now = context.currentSystemTimeMs();
            if (result.message != null) {
                Headers headers = new RecordHeaders().add("zilla:correlation-id", id);
                result.metadata.forEach(e -> headers.add("meta:" + e.name, e.value));
                last(headers, call, "0");
                context.forward(new Record<>(id, result.message, now, headers));
            }
            Headers headers = new RecordHeaders().add("zilla:correlation-id", id);
            headers.add("zilla:status", bytes(Integer.toString(result.status)));
            if (!result.description.isEmpty()) {
                headers.add("zilla:message", bytes(URLEncoder.encode(result.description, StandardCharsets.UTF_8).replace("+", "%20")));
            }
            if (result.message == null) {
                result.metadata.forEach(e -> headers.add("meta:" + e.name, e.value));
            }
            result.trailers.forEach(e -> headers.add("trailer:" + e.name, e.value));
            last(headers, call, ok ? "1" : null);
            context.forward(new Record<>(id, null, now, headers));
        }

        private static void last(Headers headers, Header call, String number) {
            if (call != null) {
                headers.add(call);
            }
            if (number != null) {
                headers.add("grpc:message", bytes(number));
            }
        }

        private static MethodDescriptor<byte[], byte[]> method(String name) {
            return MethodDescriptor.newBuilder(Bytes.MARSHALLER, Bytes.MARSHALLER)
                .setType(MethodDescriptor.MethodType.UNARY).setFullMethodName(name).build();
        }

        private static Metadata metadata(Headers headers) {
            Metadata metadata = new Metadata();
            for (Header header : headers) {
                if (!header.key().startsWith("meta:")) {
                    continue;
                }
                String name = header.key().substring("meta:".length());
                if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                    metadata.put(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), Base64.getDecoder().decode(header.value()));
                } else {
                    metadata.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), text(header.value()));
                }
            }
            return metadata;
        }

        private static List<Entry> entries(Metadata metadata) {
            List<Entry> all = new ArrayList<>();
            if (metadata == null) {
                return all;
            }
            for (String name : metadata.keys()) {
                if (name.startsWith("grpc-") || name.equals("content-type")) {
                    continue; // of the protocol
                }
                if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                    for (byte[] value : metadata.getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER))) {
                        all.add(new Entry(name, Base64.getEncoder().encode(value)));
                    }
                } else {
                    for (String value : metadata.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))) {
                        all.add(new Entry(name, bytes(value)));
                    }
                }
            }
            return all;
        }

        /** A hash over method and message: tells a repeated request from another one under the same key. */
        private static byte[] fingerprint(String method, byte[] message) {
            try {
                MessageDigest hash = MessageDigest.getInstance("SHA-256");
                for (byte[] part : new byte[][] {bytes(method), message}) {
                    hash.update(ByteBuffer.allocate(Long.BYTES).putLong(part.length).array());
                    hash.update(part);
                }
                return hash.digest();
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException(e);
            }
        }

        private static byte[] required(Headers headers, String name) {
            Header header = headers.lastHeader(name);
            if (header == null) {
                throw new IllegalArgumentException("a request has no header " + name);
            }
            return header.value();
        }
    }

    /** One value of metadata, as it is in a header of a record. */
    private record Entry(String name, byte[] value) {}

    /** What the store has of a key. The message is null where the call ended without one. */
    private record Result(long expires, byte[] fingerprint, int status, String description, List<Entry> metadata, byte[] message, List<Entry> trailers) {
        static Result failed(byte[] fingerprint, Status status) {
            String description = status.getDescription() == null ? "" : status.getDescription();
            return new Result(0, fingerprint, status.getCode().value(), description, List.of(), null, List.of());
        }

        byte[] encode() {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            try (DataOutputStream out = new DataOutputStream(bytes)) {
                out.writeLong(expires);
                Bytes.write(out, fingerprint);
                out.writeInt(status);
                Bytes.write(out, bytes(description));
                write(out, metadata);
                out.writeBoolean(message != null);
                if (message != null) {
                    Bytes.write(out, message);
                }
                write(out, trailers);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return bytes.toByteArray();
        }

        static Result decode(byte[] row) {
            try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(row))) {
                return new Result(in.readLong(), Bytes.read(in), in.readInt(), text(Bytes.read(in)), read(in),
                    in.readBoolean() ? Bytes.read(in) : null, read(in));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static void write(DataOutputStream out, List<Entry> entries) throws IOException {
            out.writeInt(entries.size());
            for (Entry e : entries) {
                out.writeUTF(e.name);
                Bytes.write(out, e.value);
            }
        }

        private static List<Entry> read(DataInputStream in) throws IOException {
            List<Entry> entries = new ArrayList<>();
            for (int n = in.readInt(); n > 0; n--) {
                entries.add(new Entry(in.readUTF(), Bytes.read(in)));
            }
            return entries;
        }
    }

    /** Bytes as they are, in rows and on the wire. */
    private static final class Bytes {
        static final MethodDescriptor.Marshaller<byte[]> MARSHALLER = new MethodDescriptor.Marshaller<>() {
            @Override
            public InputStream stream(byte[] value) {
                return new ByteArrayInputStream(value);
            }

            @Override
            public byte[] parse(InputStream stream) {
                try {
                    return stream.readAllBytes();
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            }
        };

        static void write(DataOutputStream out, byte[] value) throws IOException {
            out.writeInt(value.length);
            out.write(value);
        }

        static byte[] read(DataInputStream in) throws IOException {
            byte[] value = new byte[in.readInt()];
            in.readFully(value);
            return value;
        }
    }

    private static String text(byte[] value) {
        return new String(value, StandardCharsets.UTF_8);
    }

    private static byte[] bytes(String value) {
        return value.getBytes(StandardCharsets.UTF_8);
    }

    private Streams() {}
}
