package wire_test

import (
	"testing"

	"kafkagrpc/wire"
)

func TestMurmur2(t *testing.T) {
	t.Parallel()
	// As Kafka's own tests have them, so signed.
	tests := []struct {
		key  string
		want int32
	}{
		{"21", -973932308},
		{"foobar", -790332482},
		{"a-little-bit-long-string", -985981536},
		{"a-little-bit-longer-string", -1486304829},
		{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
		{"abc", 479470107},
	}
	for _, tt := range tests {
		t.Run(tt.key, func(t *testing.T) {
			t.Parallel()
			key := []byte(tt.key)
			if got := int32(wire.Murmur2(key)); got != tt.want {
				t.Errorf("Murmur2 = %d, want %d", got, tt.want)
			}
			if got, want := wire.Partition(key, 7), (tt.want&0x7fffffff)%7; got != want {
				t.Errorf("Partition = %d, want %d", got, want)
			}
			hash := wire.NewHash()
			for range 2 { // the second time after Reset
				hash.Reset()
				for _, b := range key {
					_, _ = hash.Write([]byte{b})
				}
				if got, want := hash.Sum32(), uint32(tt.want&0x7fffffff); got != want {
					t.Errorf("Sum32 = %d, want %d", got, want)
				}
			}
		})
	}
}

func FuzzPartition(f *testing.F) {
	f.Add([]byte("21"), int32(6))
	f.Add([]byte(nil), int32(1))
	f.Fuzz(func(t *testing.T, key []byte, partitions int32) {
		if partitions < 1 {
			t.Skip()
		}
		hash := wire.NewHash()
		_, _ = hash.Write(key)
		p := wire.Partition(key, partitions)
		if p < 0 || p >= partitions || p != int32(hash.Sum32())%partitions {
			t.Errorf("partition %d of %d, hash %d", p, partitions, hash.Sum32())
		}
	})
}
