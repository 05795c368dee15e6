// A conversation with plugind by Go's net/rpc over ugorji's codec; what it saw is printed as JSON.
package main

import (
	"encoding/json"
	"log"
	"net"
	"net/rpc"
	"os"
	"reflect"
	"strings"

	"github.com/ugorji/go/codec"
)

type named map[string]interface{}
type positional = codec.MsgpackSpecRpcMultiArgs

func main() {
	plugin, size := "test.good", 1000000
	connection, err := net.Dial("unix", os.Getenv("PLUGIND_SOCKET"))
	if err != nil {
		log.Fatal(err)
	}
	handle := &codec.MsgpackHandle{}
	// Texts as strings and maps with such keys, so that encoding/json takes them.
	handle.RawToString = true
	handle.MapType = reflect.TypeOf(map[string]interface{}(nil))
	client := rpc.NewClientWithCodec(codec.MsgpackSpecRpc.ClientCodec(connection, handle))
	defer client.Close()

	ask := func(method string, params interface{}) interface{} {
		var result interface{}
		if err := client.Call(method, params, &result); err != nil {
			log.Fatalf("%s: %s", method, err)
		}
		return result
	}
	refused := func(method string, params interface{}) string {
		var result interface{}
		err := client.Call(method, params, &result)
		if _, ok := err.(rpc.ServerError); !ok {
			log.Fatalf("%s: wanted an error of the daemon's, got %v", method, err)
		}
		return err.Error()
	}
	field := func(result interface{}, name string) interface{} {
		return result.(map[string]interface{})[name]
	}

	keys := []interface{}{}
	for _, one := range ask("plugins.list", positional{}).([]interface{}) {
		keys = append(keys, field(one, "key"))
	}
	description := ask("rpc.describe", positional{})
	methods := field(description, "methods").(map[string]interface{})
	saw := named{
		"keys":    keys,
		"methods": len(methods),
		"role":    field(methods["plugins.load"], "role"),
		"loaded":  field(ask("plugins.load", positional{plugin}), "phase"),
		"named": field(ask("plugins.call", named{
			"plugin": plugin, "method": "echo", "params": named{"value": []interface{}{1, -2, 2.5, "grün", nil, true}},
		}), "result"),
	}

	// Answered in another order than they are asked in.
	calls := []*rpc.Call{}
	for i := 0; i < 8; i++ {
		params := named{"plugin": plugin, "method": "sleep", "params": named{"s": float64(8-i) / 100}}
		calls = append(calls, client.Go("plugins.call", params, new(interface{}), nil))
	}
	answered := 0
	for _, call := range calls {
		if <-call.Done; call.Error != nil {
			log.Fatal(call.Error)
		}
		answered++
	}
	saw["together"] = answered

	text := strings.Repeat("0123456789", size/10)
	echoed := ask("plugins.call", positional{plugin, "echo", named{"value": text}})
	saw["large"] = field(echoed, "result") == text
	saw["disabled"] = field(ask("plugins.disable", named{"plugin": plugin, "reason": "tea"}), "status")
	saw["errors"] = []string{
		refused("plugins.disable", positional{plugin}),
		refused("plugins.load", positional{"nobody"}),
		refused("plugins.lod", positional{plugin}),
		refused("plugins.load", named{"plugn": plugin}),
	}
	if err := json.NewEncoder(os.Stdout).Encode(saw); err != nil {
		log.Fatal(err)
	}
}
