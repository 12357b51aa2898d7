package rawcodec_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"

	"kafkagrpc/wire/rawcodec"
)

func TestCodec(t *testing.T) {
	t.Parallel()
	for name, message := range map[string][]byte{"empty": {}, "nil": nil, "bytes": {0, 1, 0xff}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := rawcodec.Codec{}.Marshal(&message)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			if err := (rawcodec.Codec{}).Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got == nil || !bytes.Equal(got, message) {
				t.Errorf("got %#v, want %#v, not nil", got, message)
			}
			if len(got) > 0 && &got[0] == &message[0] {
				t.Error("the message received shares memory with gRPC's buffer")
			}
		})
	}
}

func TestCodecRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	if _, err := (rawcodec.Codec{}).Marshal("text"); err == nil {
		t.Error("Marshal takes a string")
	}
	var s string
	if err := (rawcodec.Codec{}).Unmarshal(mem.BufferSlice{}, &s); err == nil {
		t.Error("Unmarshal takes a *string")
	}
}
