package kafka

import (
	"reflect"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Each client of Kafka has defaults that harm us. What is said to one is said to the other, and what only one does is told to that one. That
// silent brokers are passed by, and the ways of TLS and SASL, are in TestSilentSeed and TestSecured for both.
func TestTrapsOfClients(t *testing.T) {
	t.Parallel()
	c := Cluster{Brokers: []string{"127.0.0.1:9092"}, ClientID: "me", Rack: "eu-1a", SASL: &SASL{Mechanism: sarama.SASLTypeSCRAMSHA512, Username: "ann", Password: "secret"}}
	s := c.ConsumerConfig()
	f, err := kgo.NewClient(c.readOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unnamed, err := kgo.NewClient(Cluster{Brokers: c.Brokers}.readOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer unnamed.Close()
	said := func(option any) any { return f.OptValue(option) }
	mechanisms := said(kgo.SASL).([]sasl.Mechanism)
	backoff := said(kgo.RetryBackoffFn).(func(int) time.Duration)
	_, ours := s.Net.Proxy.Dialer.(*dialer)

	const readersBack = 500 * time.Millisecond
	const none = true // the other client has no such trap
	for name, avoided := range map[string]struct{ sarama, franz bool }{
		"brokers know the client":           {s.ClientID == "me", said(kgo.ClientID) == "me"},
		"or the program":                    {Cluster{}.Config().ClientID == "kafka-grpc", unnamed.OptValue(kgo.ClientID) == "kafka-grpc"},
		"versions of Kafka 2.8":             {s.Version == sarama.V2_8_0_0, said(kgo.MaxVersions).(*kversion.Versions).Equal(kversion.V2_8_0())},
		"a mistyped name makes no topic":    {!s.Metadata.AllowAutoTopicCreation, said(kgo.AllowAutoTopicCreation) == false},
		"a name and its password":           {s.Net.SASL.Enable && s.Net.SASL.User == "ann", len(mechanisms) == 1 && mechanisms[0].Name() == "SCRAM-SHA-512"},
		"nobody, where none is configured":  {!Cluster{}.Config().Net.SASL.Enable, len(unnamed.OptValue(kgo.SASL).([]sasl.Mechanism)) == 0},
		"silent brokers end a connection":   {s.Net.Proxy.Enable && ours, said(kgo.AlwaysRetryEOF) == true},
		"a search ends":                     {s.Metadata.Timeout == metadataTimeout, said(kgo.RetryTimeout) == metadataTimeout},
		"and not sooner by its number":      {time.Duration(s.Metadata.Retry.Max)*s.Metadata.Retry.Backoff >= metadataTimeout, time.Duration(said(kgo.RequestRetries).(int64))*backoff(1) >= metadataTimeout},
		"readers are back soon":             {s.Consumer.Retry.Backoff <= readersBack, backoff(100) <= readersBack && said(kgo.MetadataMinAge).(time.Duration) <= readersBack},
		"new partitions are seen":           {s.Metadata.RefreshFrequency == time.Minute, said(kgo.MetadataMaxAge) == time.Minute},
		"reads in its rack":                 {s.RackID == "eu-1a", said(kgo.Rack) == "eu-1a"},
		"committed records only":            {s.Consumer.IsolationLevel == sarama.ReadCommitted, said(kgo.FetchIsolationLevel) == int8(1)},
		"no markers of transactions":        {none, said(kgo.KeepControlRecords) == false},
		"a stop waits for a fetch":          {s.Consumer.MaxWaitTime <= fetchWait, said(kgo.FetchMaxWait).(time.Duration) <= fetchWait},
		"a fetch waits less than a broker":  {s.Consumer.MaxWaitTime < usualPatience.check, said(kgo.FetchMaxWait).(time.Duration) < usualPatience.check},
		"what is read ahead is bounded":     {s.ChannelBufferSize <= 2, said(kgo.FetchMaxBytes).(int32) <= fetchBytes && said(kgo.FetchMaxPartitionBytes).(int32) <= fetchPartitionBytes},
		"a small batch may be large":        {none, said(kgo.MaxDecompressBatchBytes) == batchBytes},
		"the largest record can be read":    {int(sarama.MaxResponseSize) > MaxRecordBytes+fetchBytes, int(said(kgo.BrokerMaxReadBytes).(int32)) > MaxRecordBytes+fetchBytes},
		"errors are told":                   {s.Consumer.Return.Errors, none},
		"lost offsets are told":             {none, said(kgo.ConsumeResetOffset) == kgo.NoResetOffset()},
		"idle connections end here first":   {none, said(kgo.ConnIdleTimeout).(time.Duration) < 10*time.Minute && said(kgo.ConnIdleTimeout).(time.Duration) > metadataAge},
		"brokers are told nothing of ours":  {none, said(kgo.DisableClientMetrics) == true},
		"an unread partition holds up none": {s.Consumer.MaxProcessingTime == 100*time.Millisecond, none},
	} {
		if !avoided.sarama || !avoided.franz {
			t.Errorf("%s: sarama %v, franz-go %v", name, avoided.sarama, avoided.franz)
		}
	}
}

// What a member of a group reads must be all that there is, and it must give its partitions up in time. It reads as others do, but for what is said here.
func TestTrapsOfMembers(t *testing.T) {
	t.Parallel()
	c := Cluster{Brokers: []string{"127.0.0.1:9092"}, Rack: "eu-1a"}
	client := func(options []kgo.Opt) *kgo.Client {
		k, err := kgo.NewClient(options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		return k
	}
	member := func(m Membership) func(any) any { return client(c.memberOptions(m.withDefaults())).OptValue }
	reader := client(c.readOptions()).OptValue
	group, slow := member(Membership{Group: "g", Instance: "pod-1", Drain: 10 * time.Second}), member(Membership{Group: "g", Drain: 2 * time.Minute, Session: time.Minute})
	session, rebalance := group(kgo.SessionTimeout).(time.Duration), func(said func(any) any) time.Duration { return said(kgo.RebalanceTimeout).(time.Duration) }
	for name, avoided := range map[string]bool{
		"it begins at the oldest":                group(kgo.ConsumeStartOffset) == kgo.NewOffset().AtStart(),
		"lost offsets are told":                  group(kgo.ConsumeResetOffset) == kgo.NoResetOffset(),
		"what is finished is committed alone":    group(kgo.DisableAutoCommit) == true && commitInterval == 200*time.Millisecond,
		"a static member":                        group(kgo.InstanceID) == "pod-1",
		"a dynamic member":                       slow(kgo.InstanceID) == "",
		"a rebalance waits for the drain":        rebalance(group) > 10*time.Second && rebalance(slow) > 2*time.Minute,
		"and a connection for the rebalance":     Membership{Drain: time.Minute}.joinPatience().of(kmsg.JoinGroup) > Membership{Drain: time.Minute}.rebalance(),
		"several heartbeats in a session":        session >= 3*group(kgo.HeartbeatInterval).(time.Duration),
		"a session time-out that brokers accept": session >= 6*time.Second,
		"or another one":                         slow(kgo.SessionTimeout) == time.Minute,
		"it reads in its rack":                   group(kgo.Rack) == "eu-1a",
		"committed records only":                 group(kgo.FetchIsolationLevel) == reader(kgo.FetchIsolationLevel),
		"what is read ahead is bounded":          group(kgo.FetchMaxBytes) == reader(kgo.FetchMaxBytes) && aheadBytes <= fetchPartitionBytes,
		"no batch is left out":                   group(kgo.MaxDecompressBatchBytes).(int) > batchBytes,
	} {
		if !avoided {
			t.Errorf("not so: %s", name)
		}
	}
}

// What is written must be there, in order, once, and be read by all.
func TestTrapsOfTheProducer(t *testing.T) {
	t.Parallel()
	p, err := kgo.NewClient(Cluster{Brokers: []string{"127.0.0.1:9092"}}.producerOptions(DefaultMaxRecordBytes)...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	large, err := kgo.NewClient(Cluster{Brokers: []string{"127.0.0.1:9092"}}.producerOptions(MaxRecordBytes)...)
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	said := func(option any) any { return p.OptValue(option) }
	metadata, _ := said(kgo.MaxVersions).(*kversion.Versions).LookupMaxKeyVersion(kmsg.Metadata.Int16())
	backoff := said(kgo.RetryBackoffFn).(func(int) time.Duration)
	for name, avoided := range map[string]bool{
		"acks of all in-sync replicas":            said(kgo.RequiredAcks) == kgo.AllISRAcks(),
		"idempotent":                              said(kgo.DisableIdempotentWrite) == false,
		"no linger":                               said(kgo.ProducerLinger) == time.Duration(0),
		"uncompressed":                            reflect.DeepEqual(said(kgo.ProducerBatchCompression), []kgo.CompressionCodec{kgo.NoCompression()}),
		"no ids of topics":                        metadata == 9,
		"nothing is waited for longer":            said(kgo.AllowIdempotentProduceCancellation) == true,
		"whatever the timestamp of a record":      said(kgo.RecordDeliveryTimeout) == time.Duration(0),
		"nor for a number of attempts":            said(kgo.RecordRetries).(int64) > 1<<40,
		"a topic is unknown for a moment":         time.Duration(said(kgo.UnknownTopicRetries).(int64))*metadataBackoff == unknownTopicTimeout,
		"patience outlasts a broker's restart":    producerPatience > 10*time.Second,
		"and is looked at often":                  said(kgo.RetryTimeout) == producerSearch && producerSearch < producerPatience/10,
		"a leader gives up before its silence":    said(kgo.ProduceRequestTimeout) == ackTimeout && ackTimeout < usualPatience.disk,
		"an ended connection costs no rest":       backoff(1) == 0 && backoff(2) == retryBackoff,
		"a batch fits the brokers' default":       DefaultMaxRecordBytes+batchOverhead <= defaultMaxMessageBytes,
		"the largest record fits a request":       large.OptValue(kgo.BrokerMaxWriteBytes).(int32) > MaxRecordBytes+10<<10,
		"Send alone waits for room":               said(kgo.MaxBufferedRecords).(int64) > mostUnderWay/sendingOverhead && said(kgo.MaxBufferedBytes) == int64(0),
		"it goes on after brokers have lost data": said(kgo.StopProducerOnDataLossDetected) == false,
	} {
		if !avoided {
			t.Errorf("not so: %s", name)
		}
	}
}
