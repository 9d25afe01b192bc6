/* A Modbus server on libmodbus: TCP, one client at a time like many PLCs, or unit 1 of an RTU line.
 *
 * server             prints its port
 * server PORT BAUD   on a serial port; prints 0
 *
 * holding i holds i, input i holds 1000 + i, coil i is set where i is divisible by 3, discrete i where it is by 5.
 * There are 500 of each.
 */
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COUNT = 500 };

static modbus_mapping_t *make_tables(void) {
    modbus_mapping_t *tables = modbus_mapping_new(COUNT, COUNT, COUNT, COUNT);
    for (int i = 0; tables && i < COUNT; i++) {
        tables->tab_registers[i] = (uint16_t)i;
        tables->tab_input_registers[i] = (uint16_t)(1000 + i);
        tables->tab_bits[i] = i % 3 == 0;
        tables->tab_input_bits[i] = i % 5 == 0;
    }
    return tables;
}

static void answer_all(modbus_t *context, modbus_mapping_t *tables) {
    uint8_t request[MODBUS_MAX_ADU_LENGTH];
    int received;
    while ((received = modbus_receive(context, request)) >= 0)
        if (received > 0) modbus_reply(context, request, received, tables);
}

static int serve_line(const char *port, int baud) {
    modbus_t *context = modbus_new_rtu(port, baud, 'E', 8, 1);
    modbus_mapping_t *tables = make_tables();
    if (!context || !tables || modbus_set_slave(context, 1) || modbus_connect(context)) return 1;
    printf("0\n");
    fflush(stdout);
    for (;;) {
        answer_all(context, tables);
        if (errno == EIO || errno == EBADF) return 0;
    }
}

static int serve_tcp(void) {
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *tables = make_tables();
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = modbus_tcp_listen(context, 8);
    if (listener < 0 || !tables || getsockname(listener, (struct sockaddr *)&address, &size)) return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(context, &listener) < 0) return 1;
        answer_all(context, tables);
        modbus_close(context);
    }
}

int main(int count, char **words) {
    return count == 3 ? serve_line(words[1], atoi(words[2])) : serve_tcp();
}
