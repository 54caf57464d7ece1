"""RabbitMQ: the bus of a fleet, through aio-pika."""
