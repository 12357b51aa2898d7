package embedded

import "fmt"

// rawCodec hands messages through as bytes: the service needs no generated code, and what it echoes is what came.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	message, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshaling %T: want *[]byte", v)
	}
	return *message, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	message, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshaling %T: want *[]byte", v)
	}
	// The buffer is the caller's to use again.
	*message = append([]byte(nil), data...)
	return nil
}
