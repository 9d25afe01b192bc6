/* A Modbus TCP server on libmodbus, one client at a time like many PLCs; prints its port.
 *
 * holding i holds i, input i holds 1000 + i, coil i is set where i is divisible by 3, discrete i where it is by 5.
 * There are 500 of each.
 */
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COUNT = 500 };

int main(void) {
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *tables = modbus_mapping_new(COUNT, COUNT, COUNT, COUNT);
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = modbus_tcp_listen(context, 8);
    if (listener < 0 || !tables || getsockname(listener, (struct sockaddr *)&address, &size)) return 1;
    for (int i = 0; i < COUNT; i++) {
        tables->tab_registers[i] = (uint16_t)i;
        tables->tab_input_registers[i] = (uint16_t)(1000 + i);
        tables->tab_bits[i] = i % 3 == 0;
        tables->tab_input_bits[i] = i % 5 == 0;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int received;
        if (modbus_tcp_accept(context, &listener) < 0) return 1;
        while ((received = modbus_receive(context, request)) >= 0)
            if (received > 0) modbus_reply(context, request, received, tables);
        modbus_close(context);
    }
}
