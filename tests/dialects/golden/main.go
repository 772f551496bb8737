// Decodes bodies as Go servers do and writes down what came of each: the reference for Corral's decoder.
//
// Input: a JSON list of bodies in base64. Output: a JSON list of {"error", "value"}.
package main

import (
	"bytes"
	"encoding/json"
	"os"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content,omitempty"`
}

// ImageData and Duration-like types of their own decoding are not here: only what encoding/json does by itself.
type Request struct {
	Text     string         `json:"text,omitempty"`
	Flag     bool           `json:"flag,omitempty"`
	Number   int            `json:"number,omitempty"`
	Numbers  []int          `json:"numbers,omitempty"`
	Options  map[string]any `json:"options,omitempty"`
	Bytes    [][]byte       `json:"bytes,omitempty"`
	Messages []message      `json:"messages,omitempty"`
	Inner    message        `json:"inner,omitzero"`
}

type result struct {
	Error string   `json:"error"`
	Value *Request `json:"value"`
}

func main() {
	var bodies [][]byte
	if err := json.NewDecoder(os.Stdin).Decode(&bodies); err != nil {
		panic(err)
	}
	results := []result{}
	for _, body := range bodies {
		var request Request
		// A body of nothing is refused before it is decoded, as gin does.
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
			results = append(results, result{Error: err.Error()})
		} else {
			results = append(results, result{Value: &request})
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(results); err != nil {
		panic(err)
	}
}
